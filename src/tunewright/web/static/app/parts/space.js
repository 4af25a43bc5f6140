// The space of a study as its log keeps it: which parameters a configuration has, and whether a value fits.
/** The values that a parameter chooses between; null for numbers and for what is typed as JSON. */
export function options(domain) {
    if (domain.type === "choice")
        return domain.options ?? [];
    if (domain.type === "order")
        return domain.values ?? [];
    if (domain.type === "bool")
        return [false, true];
    return null;
}
/** The parameters that a configuration has, in order: those of branches that are not taken are left out. */
export function active(space, config) {
    const found = [];
    for (const domain of space.parameters) {
        const conditions = Object.entries(space.when?.[domain.name] ?? {});
        if (!conditions.every(([parent, wanted]) => parent in config && holds(config[parent], wanted)))
            continue;
        found.push(domain);
        const at = (domain.options ?? []).findIndex((option) => same(option, config[domain.name]));
        const branch = at < 0 ? null : domain.branches?.[at];
        if (branch)
            found.push(...active(branch, config));
    }
    return found;
}
function holds(value, wanted) {
    if (Array.isArray(wanted))
        return wanted.some((option) => same(option, value));
    if (wanted !== null && typeof wanted === "object") {
        const { low, high } = wanted;
        return typeof value === "number" && (low == null || value >= low) && (high == null || value <= high);
    }
    return same(value, wanted);
}
export function same(a, b) {
    return a === b || JSON.stringify(a) === JSON.stringify(b);
}
/** What a text means for a parameter, or why it does not fit. */
export function parse(domain, text) {
    const given = text.trim();
    const choices = options(domain);
    if (choices !== null) {
        const found = choices.find((option) => written(option) === text);
        return found === undefined && !choices.some((option) => written(option) === text)
            ? { error: `must be one of ${choices.map(written).join(", ")}` }
            : { value: found };
    }
    if (domain.type === "float" || domain.type === "int")
        return number(domain, given);
    try {
        return { value: JSON.parse(given) };
    }
    catch {
        return { error: "must be a JSON list, such as [1, 2]" };
    }
}
function number(domain, text) {
    const value = Number(text);
    const { low = -Infinity, high = Infinity } = domain;
    if (text === "" || !Number.isFinite(value))
        return { error: "must be a number" };
    if (domain.type === "int" && !Number.isInteger(value))
        return { error: "must be a whole number" };
    if (value < low || value > high)
        return { error: `must be from ${low} to ${high}` };
    if (domain.step !== undefined) {
        const steps = (value - low) / domain.step;
        if (Math.abs(steps - Math.round(steps)) > 1e-6)
            return { error: `must be ${low} plus a multiple of ${domain.step}` };
    }
    return { value };
}
/** A value as the text of a field. */
export function written(value) {
    return typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);
}
/** The range or the options of a parameter in words. */
export function range(domain) {
    const choices = options(domain);
    if (choices !== null)
        return choices.map(written).join(", ");
    if (domain.low === undefined)
        return "a JSON list";
    return `${domain.low} to ${domain.high}${domain.log ? ", logarithmic" : ""}`;
}
/** A random configuration near another one: numbers moved by a tenth of their range, others kept. */
export function near(space, config, random = Math.random) {
    const moved = { ...config };
    for (const domain of active(space, config)) {
        const value = config[domain.name];
        const { low, high } = domain;
        if (typeof value !== "number" || low === undefined || high === undefined)
            continue;
        const forth = (v) => (domain.log ? Math.log(v) : v);
        const shift = (random() * 2 - 1) * 0.1 * (forth(high) - forth(low));
        const there = Math.min(Math.max(forth(value) + shift, forth(low)), forth(high));
        const back = domain.log ? Math.exp(there) : there;
        const step = domain.step ?? (domain.type === "int" ? 1 : 0);
        const held = step ? low + Math.round((back - low) / step) * step : Number(back.toPrecision(6));
        moved[domain.name] = Math.min(Math.max(held, low), high);
    }
    return moved;
}
/** The names of all parameters, with the branch that they are in where names repeat: as charts call them. */
export function names(space) {
    const all = listed(space, "");
    const plain = all.map(([name]) => name);
    return all.map(([name, path]) => (plain.filter((n) => n === name).length > 1 ? path : name));
}
function listed(space, before) {
    return space.parameters.flatMap((domain) => {
        const path = before + domain.name;
        const within = (domain.branches ?? []).flatMap((branch, i) => branch ? listed(branch, `${path}=${String(domain.options?.[i])}/`) : []);
        return [[domain.name, path], ...within];
    });
}
