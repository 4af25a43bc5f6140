// Notes and tags of a study or a trial; with the rights to write, they can be changed here.

import { useState } from "preact/hooks";
import { of, post } from "../api.ts";
import { may } from "../study.ts";
import { Card } from "../ui.tsx";
import { revision, useGet } from "./kit.tsx";

interface Remark {
  note: string;
  tags: string[];
}

interface All {
  study: Remark;
  trials: Record<string, Remark>;
}

const NONE: Remark = { note: "", tags: [] };

/** A card with the note and the tags of a trial, or of the study when ``trial`` is null. */
export function Remarks({ study, trial }: { study: string; trial: number | null }) {
  const { data, again } = useGet<All>(of(study, "/notes"), revision());
  const [draft, setDraft] = useState<string | null>(null);
  const [tag, setTag] = useState("");
  const [wrong, setWrong] = useState("");
  const found = (trial === null ? data?.study : data?.trials[String(trial)]) ?? NONE;
  const write = may("worker");

  async function tell(path: string, body: object): Promise<void> {
    try {
      await post(of(study, `/${path}`), { trial, ...body });
      setWrong("");
      again();
    } catch (error) {
      setWrong(error instanceof Error ? error.message : String(error));
    }
  }

  async function save(event: Event): Promise<void> {
    event.preventDefault();
    await tell("notes", { text: draft ?? "" });
    setDraft(null);
  }

  async function add(event: Event): Promise<void> {
    event.preventDefault();
    if (tag.trim() === "") return;
    await tell("tags", { add: [tag.trim()] });
    setTag("");
  }

  if (!write && !found.note && !found.tags.length) return null;
  return (
    <Card title="Notes and tags">
      <ul class="chips" aria-label="Tags">
        {found.tags.map((name) => (
          <li key={name} class="chip">
            <span>{name}</span>
            {write && (
              <button type="button" class="bare" aria-label={`Remove tag ${name}`} onClick={() => tell("tags", { remove: [name] })}>×</button>
            )}
          </li>
        ))}
        {!found.tags.length && <li class="muted">no tags</li>}
      </ul>
      {write && (
        <form class="line" onSubmit={add}>
          <input type="text" aria-label="New tag" placeholder="new tag" maxLength={64} value={tag} onInput={(e) => setTag(e.currentTarget.value)} />
          <button type="submit">Add tag</button>
        </form>
      )}
      {draft === null ? (
        <div class="note-text">
          {found.note ? <p class="written">{found.note}</p> : <p class="muted">No note yet.</p>}
          {write && (
            <button type="button" onClick={() => setDraft(found.note)}>{found.note ? "Edit note" : "Write a note"}</button>
          )}
        </div>
      ) : (
        <form onSubmit={save}>
          <textarea aria-label="Note" rows={5} value={draft} onInput={(e) => setDraft(e.currentTarget.value)} />
          <div class="buttons">
            <button type="submit" class="primary">Save</button>
            <button type="button" onClick={() => setDraft(null)}>Cancel</button>
          </div>
        </form>
      )}
      {wrong && <p class="wrong" role="alert">{wrong}</p>}
    </Card>
  );
}
