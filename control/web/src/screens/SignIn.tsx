import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError, AWAY, signIn } from "../api";
import { Dialog } from "../components/Dialog";
import { Notice } from "../components/Notice";
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
        <h1>Video Refresher</h1>
        <p class="muted">Many fresh variations of each video.</p>
        <PasswordForm />
      </div>
    </main>
  );
}

/** The session has ended while something was open: that stays, behind this. */
export function SignInAgain() {
  return (
    <Dialog title="Sign in again">
      <p>
        Your session has ended; it lasts 24 hours at most. Everything stays as it is: go on after signing in.
      </p>
      <PasswordForm />
    </Dialog>
  );
}

function PasswordForm() {
  const field = useRef<HTMLInputElement>(null);
  const isBusy = useSignal(false);
  const problem = useSignal<string | null>(null);
  const waitS = useSignal(0);
  useEffect(() => field.current?.focus(), []);
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
    try {
      await signIn(field.current?.value ?? "");
    } catch (error) {
      const known = error instanceof ApiError ? error : null;
      waitS.value = known?.status === 429 ? (known.retryAfterS ?? 30) : 0;
      problem.value = words(known);
      field.current?.select();
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <label class="field">
        <span>Password</span>
        <input ref={field} type="password" autocomplete="current-password" required />
      </label>
      {problem.value && (
        <Notice tone="bad">
          {problem.value}
          {waitS.value > 0 && ` You can try again in ${span(waitS.value)}.`}
        </Notice>
      )}
      <button type="submit" class="primary wide" disabled={isBusy.value || waitS.value > 0}>
        {isBusy.value ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
}

function words(error: ApiError | null): string {
  if (error?.status === 401) return "The password is wrong. Ask whoever runs this for it.";
  if (error?.status === 429) return "Too many tries with a wrong password.";
  if (!error || error.status === 0 || error.status >= 500)
    return AWAY.replace("; the page tries again by itself", ", then try again");
  return error.message;
}
