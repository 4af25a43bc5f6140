// What the pages share beyond the skeleton: asking the server, choosing in the address, tables.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal, get } from "../api.ts";
import { asked, choose, href, to } from "../route.ts";
import { rows } from "../study.ts";
import { brief } from "../words.ts";

export type Cell = ComponentChildren;

interface Got<T> {
  data: T | undefined;
  error: string;
  status: number;
  again: () => void;
}

interface Found<T> {
  path: string | null;
  data?: T;
  error: string;
  status: number;
}

const WAIT = 2000; // milliseconds between two looks while a study changes

/** What is at an address, looked at again some time after ``rev`` changed; null asks for nothing. */
export function useGet<T>(path: string | null, rev = 0): Got<T> {
  const [found, setFound] = useState<Found<T>>({ path: null, error: "", status: 0 });
  const last = useRef({ path: "", at: 0, timer: 0, rev });
  const look = (): void => {
    if (path === null) return;
    Object.assign(last.current, { path, at: Date.now(), timer: 0 });
    const ours = (): boolean => last.current.path === path;
    get<T>(path).then(
      (data) => ours() && setFound({ path, data, error: "", status: 200 }),
      (error: unknown) => {
        const status = error instanceof Refusal ? error.status : 0;
        if (ours()) setFound({ path, error: error instanceof Error ? error.message : String(error), status });
      },
    );
  };
  useEffect(() => {
    window.clearTimeout(last.current.timer);
    look();
    return () => {
      window.clearTimeout(last.current.timer);
      last.current.path = "";
    };
  }, [path]);
  useEffect(() => {
    const { current } = last;
    if (current.rev === rev) return;
    current.rev = rev;
    // The rest between two looks is kept even when news come faster than that.
    if (current.at && !current.timer) current.timer = window.setTimeout(look, Math.max(0, current.at + WAIT - Date.now()));
  }, [rev]);
  const here = found.path === path;
  return { data: here ? found.data : undefined, error: here ? found.error : "", status: here ? found.status : 0, again: look };
}

/** A value in the address and its setter; the usual value is not written there. */
export function useQuery(name: string, usual: string): [string, (value: string) => void] {
  return [asked(name, usual), (value) => choose({ [name]: value === usual ? "" : value })];
}

/** The title of a page, and what it is for. */
export function PageHead({ title, what, children }: { title: string; what?: string; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <h1>{title}</h1>
      {what && <p class="muted">{what}</p>}
      {children}
    </header>
  );
}

/** What a page is for, above its cards. */
export function Lead({ children }: { children: ComponentChildren }) {
  return <p class="lead muted">{children}</p>;
}

/** The address of a page of a study, for a link. */
export function link(study: string, page = ""): string {
  return href(to(study, page));
}

/** The number of the log that is in view, so that what was read from it can be read again. */
export function revision(): number {
  return rows.value?.rev ?? 0;
}

/** A value as text: numbers in full, or to some digits. */
export function exact(value: unknown, digits?: number): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return digits === undefined ? String(value) : brief(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A table that scrolls sideways within its own box; the first column heads the rows. */
export function Table({ head, rows: lines, label }: { head: Cell[]; rows: Cell[][]; label: string }) {
  return (
    <div class="table-box" tabIndex={0} role="group" aria-label={label}>
      <table>
        <thead>
          <tr>{head.map((cell, i) => (cell === "" ? <td key={i} /> : <th key={i} scope="col" class={i ? "right" : ""}><span class="long">{cell}</span></th>))}</tr>
        </thead>
        <tbody>
          {lines.map((line, n) => (
            <tr key={n}>
              {line.map((cell, i) =>
                i === 0 ? <th key={i} scope="row"><span class="long">{cell}</span></th> : <td key={i} class="right number"><span class="long">{cell}</span></td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
