// What people may do to a study as a whole: pause, resume, stop, enqueue.

import { useState } from "preact/hooks";
import { fixed, of, post } from "./api.ts";
import { Enqueue } from "./parts/enqueue.tsx";
import type { SpaceData } from "./parts/space.ts";
import { useGet } from "./parts/kit.tsx";
import { may } from "./study.ts";
import { say } from "./ui.tsx";

const WORDS: Record<string, string> = {
  pause: "Paused: no new trial begins.",
  resume: "Goes on.",
  stop: "Stops: everybody who works on it saves and leaves.",
};

export function Steer({ study }: { study: string }) {
  const [adding, setAdding] = useState(false);
  const { data } = useGet<{ spec: { problem: { space: SpaceData } } }>(adding ? of(study) : null);
  if (fixed || !may("worker")) return null;
  const wish = (action: string): void => {
    post(of(study, "/control"), { action }).then(
      () => say(WORDS[action] ?? "Done."),
      (e: unknown) => say(e instanceof Error ? e.message : String(e), true),
    );
  };
  return (
    <div class="tools" role="group" aria-label="Steer the study">
      {may("admin") && (
        <>
          <button type="button" class="plain" onClick={() => wish("pause")}>Pause</button>
          <button type="button" class="plain" onClick={() => wish("resume")}>Resume</button>
          <button type="button" class="plain" onClick={() => window.confirm(`Stop ${study}? Trials that run are saved.`) && wish("stop")}>Stop</button>
        </>
      )}
      <button type="button" class="plain" onClick={() => setAdding(true)}>Enqueue</button>
      {adding && data && (
        <Enqueue
          study={study}
          space={data.spec.problem.space}
          title="Try a configuration next"
          start={{}}
          onClose={(said) => {
            setAdding(false);
            if (said) say(said);
          }}
        />
      )}
    </div>
  );
}
