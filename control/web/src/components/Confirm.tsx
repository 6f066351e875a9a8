import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { inWords } from "../api";
import { t } from "../texts";
import { Dialog } from "./Dialog";
import { Notice } from "./Notice";

interface Question {
  title: string;
  text: string;
  /** What the button that goes on says, and the one that does not. */
  yes: string;
  no?: string;
  /** What a yes does. The dialog stays until it is done, and shows the message of an Error; closed before, it
   * aborts `stop`. */
  act: (stop: AbortSignal) => Promise<unknown>;
}

const asked = signal<Question | null>(null);
let stop = new AbortController();

/** Ask before something is done that cannot be undone, or costs money. */
export function ask(question: Question): void {
  stop = new AbortController();
  asked.value = question;
}

const close = (): void => {
  stop.abort();
  asked.value = null;
};

/** Where the question appears; the page has it once. */
export function Confirm() {
  return asked.value && <Asked key={asked.value.title} question={asked.value} />;
}

function Asked({ question: { title, text, yes, no = t.confirm.no, act } }: { question: Question }) {
  const isBusy = useSignal(false);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    addEventListener("hashchange", close); // Back leads away from what was asked
    return () => removeEventListener("hashchange", close);
  }, []);
  const agree = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    problem.value = null;
    const mine = stop.signal;
    try {
      await act(mine);
      if (!mine.aborted) close(); // else another question may be open by now
    } catch (error) {
      problem.value = inWords(error);
      isBusy.value = false;
    }
  };
  return (
    <Dialog title={title} onClose={close}>
      <p>{text}</p>
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      <div class="dialog-actions">
        <button type="button" autofocus onClick={close}>
          {no}
        </button>
        <button type="button" class="danger" aria-disabled={isBusy.value} onClick={() => void agree()}>
          {yes}
        </button>
      </div>
    </Dialog>
  );
}
