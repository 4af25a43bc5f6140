// Where we are: the page in the address, and what is chosen on it behind the question mark.
import { signal } from "@preact/signals";
import { fixed } from "./api.js";
function read() {
    // A report is one file, so its pages are behind the hash.
    const whole = fixed ? location.hash.slice(1) || "/" : location.pathname + location.search;
    const [path = "/", query = ""] = whole.split(/\?(.*)/s);
    return { path, query: new URLSearchParams(query) };
}
/** The current address. */
export const address = signal(read());
/** What an address stands for; the page "missing" for none. */
export function place(path) {
    let parts;
    try {
        parts = path.split("/").slice(1).map(decodeURIComponent);
    }
    catch {
        return { page: "missing", study: "", item: "" };
    }
    const [first = "", study = "", page = "", item = ""] = parts;
    if (first === "" && parts.length === 1)
        return { page: "studies", study: "", item: "" };
    if ((first === "compare" || first === "methods") && parts.length === 1)
        return { page: first, study: "", item: "" };
    if (first === "s" && study) {
        if (parts.length === 2)
            return { page: "overview", study, item: "" };
        if (page === "trial" && parts.length === 4 && /^\d+$/.test(item))
            return { page, study, item };
        if (parts.length === 3 && page !== "trial")
            return { page, study, item: "" };
    }
    return { page: "missing", study: "", item: "" };
}
/** The address of a study's page. */
export function to(study, page = "", keep = {}) {
    const query = new URLSearchParams(keep).toString();
    return `/s/${encodeURIComponent(study)}${page ? `/${page}` : ""}${query ? `?${query}` : ""}`;
}
/** An address as it stands in a link. */
export function href(path) {
    return fixed ? `#${path}` : path;
}
/** Goes to an address of this application. */
export function go(path) {
    history.pushState(null, "", href(path));
    address.value = read();
    window.scrollTo(0, 0);
    document.getElementById("content")?.focus({ preventScroll: true });
}
/** One value behind the question mark. */
export function asked(name, otherwise = "") {
    return address.value.query.get(name) ?? otherwise;
}
/** Sets values behind the question mark, without a new entry in the history; an empty one is taken out. */
export function choose(values) {
    const query = new URLSearchParams(address.value.query);
    for (const [name, value] of Object.entries(values)) {
        if (value === "")
            query.delete(name);
        else
            query.set(name, value);
    }
    const text = query.toString();
    history.replaceState(null, "", href(address.value.path + (text ? `?${text}` : "")));
    address.value = { path: address.value.path, query };
}
window.addEventListener("popstate", () => (address.value = read()));
window.addEventListener("hashchange", () => fixed && (address.value = read()));
document.addEventListener("click", (event) => {
    const link = event.target?.closest("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey)
        return;
    const path = link.getAttribute("href") ?? "";
    const ours = fixed ? path.startsWith("#/") : path.startsWith("/") && !path.startsWith("/api/");
    if (!ours || link.hasAttribute("download") || link.getAttribute("target"))
        return;
    event.preventDefault();
    go(fixed ? path.slice(1) : path);
});
