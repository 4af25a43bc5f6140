// The parameters of a trial as a command, as Python and as JSON, to be copied.

import { useState } from "preact/hooks";
import { of } from "../api.ts";
import { Card, Select, say } from "../ui.tsx";
import { useGet } from "./kit.tsx";

interface Forms {
  command: string | null;
  python: string;
  json: string;
}

/** A card with the text and a button that copies it. */
export function Copying({ study, trial }: { study: string; trial: number }) {
  const { data } = useGet<Forms>(of(study, `/trials/${trial}/copy`));
  const [form, setForm] = useState("");
  if (!data) return null;
  const forms: [string, string, string][] = [["python", "Python", data.python], ["json", "JSON", data.json]];
  if (data.command !== null) forms.unshift(["command", "Command", data.command]);
  const chosen = forms.find(([name]) => name === form) ?? forms[0]!;

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(chosen[2]);
      say("Copied.");
    } catch {
      say("The browser does not allow it here; select the text instead.", true);
    }
  }

  return (
    <Card
      title="Use it elsewhere"
      tools={
        <>
          <Select label="As" value={chosen[0]} options={forms.map(([name, title]) => [name, title])} onChange={setForm} />
          <button type="button" onClick={copy}>Copy</button>
        </>
      }
    >
      <pre class="code" tabIndex={0} aria-label={`Parameters as ${chosen[1]}`}>{chosen[2]}</pre>
    </Card>
  );
}
