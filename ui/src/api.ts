// Talks to the server; in a report it answers from the data inside the page.

const PREFIX = "/api/v1";

/** What the server said no to, in its own words. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

type Kept = Record<string, unknown>;

function inside(): Kept | null {
  const place = document.getElementById("tunewright-data");
  return place?.textContent ? (JSON.parse(place.textContent) as Kept) : null;
}

const kept = inside();

/** Whether this page is a report: a file with its data inside, and no server behind it. */
export const fixed = kept !== null;

/** The address of a study in the interface, or of something below it. */
export function of(study: string, rest = ""): string {
  return `${PREFIX}/studies/${encodeURIComponent(study)}${rest}`;
}

async function explained(answer: Response): Promise<Refusal> {
  let words = `The server answered ${answer.status}.`;
  try {
    const body = (await answer.json()) as { error?: { message?: string } };
    words = body.error?.message ?? words;
  } catch {
    // Not an answer of the interface, as from a proxy in between.
  }
  if (answer.status === 401) words = "This needs a token. Open the address that 'tunewright dashboard' printed.";
  return new Refusal(words, answer.status);
}

/** Reads JSON from an address below the server; throws a Refusal. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  if (kept) {
    const found = kept[path] as { error?: { message: string } } | undefined;
    // What the server would have refused is kept with its reason.
    if (typeof found?.error === "object") throw new Refusal(found.error.message, 422);
    if (path in kept) return found as T;
    throw new Refusal("This report does not hold that. Open the study in the dashboard.", 404);
  }
  let answer: Response;
  try {
    answer = await fetch(path, signal ? { signal } : {});
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("The server cannot be reached. Is 'tunewright dashboard' still running?", 0);
  }
  if (!answer.ok) throw await explained(answer);
  return (await answer.json()) as T;
}

/** Reads text; throws a Refusal. */
export async function text(path: string): Promise<string> {
  if (kept) return String(await get<string>(path));
  const answer = await fetch(path);
  if (!answer.ok) throw await explained(answer);
  return answer.text();
}

/** Sends JSON and returns the answer, null for an empty one; throws a Refusal. */
export async function post<T>(path: string, body: unknown): Promise<T | null> {
  if (kept) throw new Refusal("A report can only be read.", 405);
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw await explained(answer);
  const said = await answer.text();
  return said ? (JSON.parse(said) as T) : null;
}

/** Calls back whenever a study has news, until the returned function is called. The browser connects again by itself. */
export function listen(study: string, after: () => number, news: (rev: number) => void): () => void {
  if (fixed) return () => undefined;
  let source: EventSource | null = null;
  const begin = (): void => {
    source = new EventSource(of(study, `/events?after=${after()}`));
    source.onmessage = (event) => news(Number(event.lastEventId));
    source.onerror = () => {
      // A refusal ends the stream for good; try again later, from where we are.
      if (source?.readyState === EventSource.CLOSED) window.setTimeout(() => !ended && begin(), 5000);
    };
  };
  let ended = false;
  begin();
  return () => {
    ended = true;
    source?.close();
  };
}
