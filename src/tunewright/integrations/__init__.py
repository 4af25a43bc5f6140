"""Other packages' words for Tunewright's studies, spaces and methods: each module stands for one package."""
