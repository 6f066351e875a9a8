import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError, signIn } from "../api";
import { Again } from "../components/Again";
import { Dialog } from "../components/Dialog";
import { Language } from "../components/Language";
import { Notice } from "../components/Notice";
import { t } from "../texts";
import { span } from "../words";

/** The way in. */
export function SignIn() {
  return (
    <main class="signin" id="main">
      <div class="signin-card">
        <img
          class="signin-logo"
          src={new URL("../icon.svg", import.meta.url).href}
          alt=""
          width="48"
          height="48"
        />
        <h1>{t.app.name}</h1>
        <p class="muted">{t.signIn.lead}</p>
        <PasswordForm />
        <Again />
        <Language />
      </div>
    </main>
  );
}

/** The session has ended while something was open: that stays, behind this. */
export function SignInAgain() {
  return (
    <Dialog title={t.signIn.again}>
      <p>{t.signIn.ended}</p>
      <PasswordForm />
    </Dialog>
  );
}

function PasswordForm() {
  const field = useRef<HTMLInputElement>(null);
  const isBusy = useSignal(false);
  const problem = useSignal<string | null>(null);
  const waitS = useSignal(0);
  const tried = useRef(new AbortController());
  useEffect(() => field.current?.focus(), []);
  useEffect(() => () => tried.current.abort(), []);
  useEffect(() => {
    const timer = setInterval(() => {
      if (waitS.value > 0) waitS.value -= 1;
    }, 1000);
    return () => clearInterval(timer);
  }, []);

  const submit = async (event: Event) => {
    event.preventDefault();
    if (isBusy.value || waitS.value) return;
    isBusy.value = true;
    problem.value = null;
    tried.current.abort(); // one that waits: perhaps with another password
    tried.current = new AbortController();
    const { signal: stop } = tried.current;
    const onTrouble = () => {
      if (!stop.aborted) isBusy.value = false;
    };
    try {
      await signIn(field.current?.value ?? "", { stop, onTrouble });
    } catch (error) {
      if (!(error instanceof ApiError)) return;
      waitS.value = error.status === 429 ? (error.retryAfterS ?? 30) : 0;
      problem.value = words(error);
      field.current?.select();
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <label class="field">
        <span>{t.signIn.password}</span>
        <input ref={field} type="password" autocomplete="current-password" required />
      </label>
      {problem.value && (
        <Notice tone="bad">
          {problem.value}
          {waitS.value > 0 && ` ${t.signIn.waitFor(span(waitS.value))}`}
        </Notice>
      )}
      <button type="submit" class="primary wide" disabled={isBusy.value || waitS.value > 0}>
        {isBusy.value ? t.signIn.busy : t.signIn.go}
      </button>
    </form>
  );
}

function words({ status, message }: ApiError): string {
  if (status === 401) return t.signIn.wrong;
  return status === 429 ? t.signIn.tooMany : message;
}
