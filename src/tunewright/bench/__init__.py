"""Comparing methods: recorded trainings as problems, and studies on a virtual clock."""
