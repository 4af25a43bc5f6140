// Methods: what can decide, when to use it, what was claimed of it and what measuring said.

import { PageHead, useGet, useQuery } from "../parts/kit.tsx";
import { Empty, Select } from "../ui.tsx";

interface Claim {
  claim: string;
  title: string;
  paper: string;
  verdict: string;
  summary: string;
  seeds: number;
}

interface Method {
  name: string;
  kind: string;
  family: string;
  paper: string;
  summary: string;
  when: string;
  needs: string;
  claims: Claim[];
}

export function Methods() {
  const [words, setWords] = useQuery("q", "");
  const [family, setFamily] = useQuery("family", "");
  const { data, error } = useGet<{ methods: Method[] }>("/api/v1/methods");
  const all = data?.methods ?? [];
  const families = [...new Set(all.map((m) => m.family))];
  const found = all.filter((m) => (!family || m.family === family) && matches(m, words));
  return (
    <>
      <PageHead title="Methods" what="What can decide which configurations are tried, when to use each, and what measuring said about its claims." />
      <div class="tools searching">
        <input
          type="search"
          aria-label="Search methods"
          placeholder="Search: name, paper, when to use, claim"
          value={words}
          onInput={(e) => setWords(e.currentTarget.value)}
        />
        <Select label="Family" value={family} options={[["", "all"], ...families.map((f): [string, string] => [f, f])]} onChange={setFamily} />
        <span role="status" class="muted">{data ? `${found.length} of ${all.length}` : ""}</span>
      </div>
      {error && <Empty>{error}</Empty>}
      {data && !found.length && <Empty>Nothing matches. Use fewer words.</Empty>}
      <div class="methods">
        {found.map((method) => <Entry key={`${method.kind} ${method.name}`} method={method} />)}
      </div>
    </>
  );
}

function Entry({ method }: { method: Method }) {
  const { claims } = method;
  return (
    <article class="card method" aria-label={method.name}>
      <h2><code>{method.name}</code> <span class="badge">{method.family}</span></h2>
      <p>{method.summary}</p>
      <dl class="facts">
        {method.when && <div><dt>When</dt><dd>{method.when}</dd></div>}
        {method.paper && <div><dt>Paper</dt><dd>{method.paper}</dd></div>}
        {method.needs && <div><dt>Needs</dt><dd>{method.needs}</dd></div>}
      </dl>
      {claims.length > 0 && (
        <details>
          <summary>{claims.length === 1 ? "1 claim, measured" : `${claims.length} claims, measured`}</summary>
          <ul class="claims">
            {claims.map((claim) => (
              <li key={claim.claim}>
                <strong>{claim.title}</strong> <span class="muted">{claim.paper}</span>
                <br />
                <span class="badge">{claim.verdict}</span> {claim.summary} <span class="muted">{claim.seeds} seeds.</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </article>
  );
}

/** Whether every word is somewhere in what is known about a method. */
export function matches(method: Method, words: string): boolean {
  const text = JSON.stringify(method).toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
