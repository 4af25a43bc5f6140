// The question box: "state:completed lr<1e-3 val>0.97 model=conv #12" as a test of rows.
import { column } from "./rows.js";
const TERM = /^(.+?)(<=|>=|!=|=|<|>|:)(.*)$/s;
/** Splits at spaces outside double quotes. */
export function terms(text) {
    return (text.match(/(?:[^\s"]|"[^"]*")+/g) ?? []).map((t) => t.replaceAll('"', ""));
}
/** Makes a test of rows from text; rows have to pass every term. */
export function filter(text, rows) {
    const tests = [];
    for (const term of terms(text)) {
        const found = one(term, rows);
        if (typeof found === "string")
            return { test: () => true, wrong: found };
        tests.push(found);
    }
    return { test: (row) => tests.every((t) => t(row)), wrong: "" };
}
function one(term, rows) {
    if (/^#\d+$/.test(term))
        return (row) => rows.number[row] === Number(term.slice(1));
    const [, name = "", sign = "", value = ""] = TERM.exec(term) ?? [];
    if (!sign)
        return `A condition is such as lr<1e-3 or state:failed; got ${term}.`;
    const found = column(rows, name);
    if (!found)
        return `There is no column ${name}.`;
    const { data, labels } = found;
    if (labels) {
        const wanted = new Set(value.split("|").map((v) => v.toLowerCase()));
        const yes = labels.map((l) => wanted.has(l.toLowerCase()));
        if (!yes.some(Boolean))
            return `${name} is never ${value}; it is ${labels.slice(0, 8).join(", ")}.`;
        return sign === "!=" ? (row) => !yes[data[row]] : (row) => yes[data[row]] ?? false;
    }
    const number = Number(value);
    if (value === "" || Number.isNaN(number))
        return `${name} is compared with a number; got ${value || "nothing"}.`;
    switch (sign) {
        case "<": return (row) => data[row] < number;
        case "<=": return (row) => data[row] <= number;
        case ">": return (row) => data[row] > number;
        case ">=": return (row) => data[row] >= number;
        case "!=": return (row) => data[row] !== number;
        default: return (row) => near(data[row], number);
    }
}
/** Columns come with six digits, so equality is meant to five. */
function near(a, b) {
    return a === b || Math.abs(a - b) <= 1e-5 * Math.max(Math.abs(a), Math.abs(b));
}
