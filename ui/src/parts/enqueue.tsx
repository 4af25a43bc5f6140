// A form for one configuration, checked against the space while it is typed.

import { useEffect, useRef, useState } from "preact/hooks";
import { of, post } from "../api.ts";
import { active, options, parse, range, written } from "./space.ts";
import type { Config, Domain, SpaceData } from "./space.ts";

interface Props {
  study: string;
  space: SpaceData;
  title: string;
  start: Config;
  onClose: (said?: string) => void;
}

/** A dialog that puts a configuration into the queue. */
export function Enqueue({ study, space, title, start, onClose }: Props) {
  const box = useRef<HTMLDialogElement>(null);
  const [texts, setTexts] = useState<Record<string, string>>(() => texted(start));
  const [refused, setRefused] = useState("");
  useEffect(() => box.current?.showModal(), []);
  const { config, errors, shown } = checked(space, texts);
  const wrong = Object.keys(errors).length;

  async function send(event: Event): Promise<void> {
    event.preventDefault();
    if (wrong) {
      box.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
      return;
    }
    try {
      await post(of(study, "/queue"), { params: config });
      onClose("In the queue: the next free worker trains it.");
    } catch (error) {
      setRefused(error instanceof Error ? error.message : String(error));
    }
  }

  return (
    <dialog ref={box} class="sheet" aria-labelledby="enqueue-title" onClose={() => onClose()}>
      <form onSubmit={send} noValidate>
        <h2 id="enqueue-title">{title}</h2>
        <p class="muted">Leave a field empty to have its value drawn when the trial starts.</p>
        <div class="fields">
          {shown.map((domain) => (
            <Field
              key={domain.name}
              domain={domain}
              text={texts[domain.name] ?? ""}
              error={errors[domain.name]}
              onText={(text) => setTexts({ ...texts, [domain.name]: text })}
            />
          ))}
        </div>
        {refused && <p class="wrong" role="alert">{refused}</p>}
        <div class="buttons">
          <button type="submit" class="primary">Enqueue</button>
          <button type="button" onClick={() => onClose()}>Cancel</button>
        </div>
      </form>
    </dialog>
  );
}

function Field({ domain, text, error, onText }: {
  domain: Domain;
  text: string;
  error: string | undefined;
  onText: (text: string) => void;
}) {
  const id = `field-${encodeURIComponent(domain.name)}`;
  const choices = options(domain);
  const common = {
    id,
    "aria-invalid": error ? ("true" as const) : ("false" as const),
    "aria-describedby": `${id}-hint`,
  };
  return (
    <div class="field">
      <label for={id}>{domain.name}</label>
      {choices !== null ? (
        <select {...common} value={text} onChange={(e) => onText(e.currentTarget.value)}>
          <option value="">(drawn)</option>
          {choices.map((option) => <option key={written(option)} value={written(option)}>{written(option)}</option>)}
        </select>
      ) : (
        <input
          {...common}
          type="text"
          inputMode={domain.type === "float" || domain.type === "int" ? "decimal" : "text"}
          value={text}
          onInput={(e) => onText(e.currentTarget.value)}
        />
      )}
      <span id={`${id}-hint`} class={error ? "wrong hint" : "muted hint"}>
        {error ? `${domain.name} ${error}` : range(domain)}
      </span>
    </div>
  );
}

function texted(config: Config): Record<string, string> {
  return Object.fromEntries(Object.entries(config).map(([name, value]) => [name, written(value)]));
}

/** What the fields come to: a configuration, what is wrong with them, and which there are. */
function checked(space: SpaceData, texts: Record<string, string>) {
  let config: Config = {};
  const errors: Record<string, string> = {};
  // A field may open others, so values are read again until nothing new appears.
  for (let before = -1; before !== Object.keys(config).length; ) {
    before = Object.keys(config).length;
    const next: Config = {};
    for (const domain of active(space, config)) {
      const text = texts[domain.name] ?? "";
      delete errors[domain.name];
      if (text === "") continue;
      const found = parse(domain, text);
      if ("error" in found) errors[domain.name] = found.error;
      else next[domain.name] = found.value;
    }
    config = next;
  }
  return { config, errors, shown: active(space, config) };
}
