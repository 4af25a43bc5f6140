// The frame around every page: where we are, what is chosen, light or dark, and the keys.

import type { ComponentType } from "preact";
import { Component, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { fixed, get } from "./api.ts";
import { studyPages } from "./pages.ts";
import { Compare } from "./pages/compare.tsx";
import { Methods } from "./pages/methods.tsx";
import { Studies } from "./pages/studies.tsx";
import type { Board } from "./pages/studies.tsx";
import { TrialPage } from "./pages/trial.tsx";
import { address, asked, choose, go, href, place, to } from "./route.ts";
import type { Place } from "./route.ts";
import type { Rows } from "./rows.ts";
import { Steer } from "./steer.tsx";
import { brush, brushes, clear, question, rights, rows, selection, trouble, view } from "./study.ts";
import { Chosen } from "./table.tsx";
import { mode } from "./theme.ts";
import type { Mode } from "./theme.ts";
import { Chip, Empty, Messages } from "./ui.tsx";
import { brief, count } from "./words.ts";

const KEEP = ["sel", "q"];

/** The part of the address that goes along from page to page. */
function along(): Record<string, string> {
  return Object.fromEntries(KEEP.map((k) => [k, asked(k)]).filter(([, v]) => v)) as Record<string, string>;
}

function Head({ at }: { at: Place }) {
  const modes: Record<Mode, [Mode, string, string]> = {
    auto: ["light", "◐", "as the system has it"],
    light: ["dark", "☀", "light"],
    dark: ["auto", "☾", "dark"],
  };
  const [next, sign, words] = modes[mode.value];
  return (
    <header class="top no-print">
      <a class="skip" href="#content" onClick={(e) => { e.preventDefault(); document.getElementById("content")?.focus(); }}>Skip to the content</a>
      <a class="brand" href={href("/")}>Tunewright</a>
      {at.study && (
        <span class="crumb">
          <span aria-hidden="true">/</span> <a class="long" href={href(to(at.study))}>{at.study}</a>
        </span>
      )}
      <nav class="grow" aria-label="Tunewright">
        {!fixed && <a href={href("/compare")} aria-current={at.page === "compare" ? "page" : undefined}>Compare</a>}
        {!fixed && <a href={href("/methods")} aria-current={at.page === "methods" ? "page" : undefined}>Methods</a>}
      </nav>
      {at.study && <Steer study={at.study} />}
      <button type="button" class="plain" onClick={() => (mode.value = next)} aria-label={`Colours: ${words}`} title={`Colours: ${words}`}>
        <span aria-hidden="true">{sign}</span>
      </button>
      <Keys study={at.study} />
    </header>
  );
}

function Menu({ at, found }: { at: Place; found: Rows | null }) {
  return (
    <nav class="menu-bar no-print" aria-label="Pages of the study">
      {[...studyPages].filter(([name, page]) => name === at.page || !found || (page.fits?.(found) ?? true)).map(([name, page]) => (
        <a key={name} href={href(to(at.study, name === "overview" ? "" : name, along()))} aria-current={name === at.page ? "page" : undefined}>
          {page.words}
        </a>
      ))}
    </nav>
  );
}

function Question({ found }: { found: Rows }) {
  const chosen = selection.value;
  return (
    <div class="question no-print">
      <label class="grow">
        <span class="unseen">Choose trials</span>
        <input
          id="question"
          type="search"
          placeholder="choose trials: state:completed lr<1e-3"
          value={question.value}
          aria-invalid={chosen.wrong !== ""}
          aria-describedby="question-wrong"
          onInput={(e) => choose({ q: e.currentTarget.value })}
        />
      </label>
      {Object.entries(brushes.value).map(([name, [low, high]]) => (
        <Chip key={name} onClick={() => brush(name, null)} label={`Lift the range of ${name}`}>
          <span class="long">{name}</span> {brief(low)} … {brief(high)}
        </Chip>
      ))}
      <Chosen rows={found} />
      <span id="question-wrong" class="wrong small" role="status">{chosen.wrong}</span>
    </div>
  );
}

function Missing({ words }: { words: string }) {
  return (
    <div class="missing">
      <h1>Not found</h1>
      <p>{words}</p>
      <p><a href={href("/")}>All studies</a></p>
    </div>
  );
}

function InStudy({ at }: { at: Place }) {
  const found = rows.value;
  const page = studyPages.get(at.page);
  const [Page, setPage] = useState<ComponentType<{ study: Rows }> | null>(null);
  useEffect(() => {
    setPage(null);
    void page?.load().then((made) => setPage(() => made));
  }, [at.page]);
  if (trouble.value && !found) {
    const gone = trouble.value.status === 404;
    return gone ? <Missing words={`There is no study '${at.study}' here.`} /> : <Empty>{trouble.value.message}</Empty>;
  }
  if (!page && at.page !== "trial") return <Missing words={`A study has no page '${at.page}'.`} />;
  const title = page ? page.words.replace("?", "") : `Trial ${at.item}`;
  return (
    <>
      <Menu at={at} found={found} />
      {found && at.page !== "trial" && <Question found={found} />}
      {at.page !== "trial" && <h1 class="unseen">{`${title}: ${at.study}`}</h1>}
      {trouble.value && <p class="wrong">{trouble.value.message}</p>}
      {!found ? (
        <Empty>…</Empty>
      ) : at.page === "trial" ? (
        <TrialPage study={found} number={Number(at.item)} />
      ) : Page ? (
        <Page study={found} />
      ) : (
        <Empty>…</Empty>
      )}
      <p class="unseen" aria-live="polite">{found ? count(found.n, "trial") : ""}</p>
    </>
  );
}

const HELP: [string, string][] = [
  ["g then s", "all studies"], ["g then o, e, t, p", "overview, explore, trials, parameters"], ["/", "the question box"],
  ["Esc", "choose all trials again"], ["d", "light or dark"], ["?", "this help"],
];

function Keys({ study }: { study: string }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    let leader = false;
    const onKey = (e: KeyboardEvent): void => {
      const target = e.target as HTMLElement;
      if (e.ctrlKey || e.metaKey || e.altKey || target.matches("input,textarea,select") || document.querySelector("dialog[open]")) return;
      const goTo: Record<string, string> = { s: "/", o: to(study), e: to(study, "explore", along()), t: to(study, "trials", along()), p: to(study, "parameters", along()) };
      const path = leader ? goTo[e.key] : undefined;
      leader = e.key === "g" && !leader;
      if (path && (study || path === "/")) go(path);
      else if (e.key === "/") { e.preventDefault(); document.getElementById("question")?.focus(); }
      else if (e.key === "Escape" && !target.matches(".axis-name")) clear();
      else if (e.key === "d") mode.value = mode.value === "dark" ? "light" : "dark";
      else if (e.key === "?") box.current?.showModal();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [study]);
  return (
    <>
      <button type="button" class="plain" onClick={() => box.current?.showModal()} aria-label="Keys">?</button>
      <dialog ref={box} class="sheet" aria-label="Keys">
        <h2>Keys</h2>
        <dl class="facts">
          {HELP.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}
        </dl>
        <form method="dialog"><button type="submit" class="button">Close</button></form>
      </dialog>
    </>
  );
}

/** Says what broke instead of leaving a blank page. */
class Guard extends Component<{ at: string }, { error: string; at: string }> {
  override state = { error: "", at: "" };
  override componentDidCatch(error: unknown): void {
    this.setState({ error: error instanceof Error ? error.message : String(error), at: this.props.at });
    console.error(error);
  }
  override render() {
    const { error, at } = this.state;
    if (error && at === this.props.at) return <div class="missing"><h1>This page broke</h1><p class="wrong">{error}</p></div>;
    return this.props.children;
  }
}

function App() {
  const at = place(address.value.path);
  useEffect(() => view(at.study), [at.study]);
  useEffect(() => {
    if (fixed) return;
    // What we may do is on the board; a token for one study sees only that one there.
    get<Board>("/api/v1/board").then((b) => (rights.value = b.readonly ? "read" : b.rights), () => undefined);
  }, []);
  return (
    <>
      <Head at={at} />
      <main id="content" tabIndex={-1}>
        <Guard at={address.value.path}>
          {at.study ? <InStudy at={at} /> : at.page === "studies" ? <Studies /> : at.page === "compare" ? <Compare /> : at.page === "methods" ? <Methods /> : <Missing words="There is no such page." />}
        </Guard>
      </main>
      <Messages />
    </>
  );
}

const root = document.getElementById("app");
if (root) render(<App />, root);
