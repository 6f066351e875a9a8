import { useEffect } from "preact/hooks";
import { Again } from "./components/Again";
import { Confirm } from "./components/Confirm";
import { Language } from "./components/Language";
import { Toasts } from "./components/Toast";
import { isArmed, items, pending } from "./draft";
import { route } from "./route";
import { BatchScreen } from "./screens/Batch";
import { History } from "./screens/History";
import { NewBatch } from "./screens/NewBatch";
import { Shared } from "./screens/Shared";
import { SignIn, SignInAgain } from "./screens/SignIn";
import { Usage } from "./screens/Usage";
import * as session from "./session";
import { t } from "./texts";

export function App() {
  const at = route.value;
  const { screen } = at;
  const isSignedIn = session.token.value !== null;
  useEffect(() => {
    if (screen !== "batch" && screen !== "shared") document.title = `${t.app.titles[screen]} · ${t.app.name}`; // these have their own
    if (isSignedIn) document.getElementById("main")?.focus({ preventScroll: true });
  }, [screen, isSignedIn]);
  if (at.screen === "shared") return <Shared key={at.token} {...at} />;
  if (!isSignedIn) return <SignIn />;
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        {t.app.skip}
      </button>
      <Header />
      <Again />
      <main id="main" tabIndex={-1}>
        <Screen />
      </main>
      <footer class="foot">
        <Language />
      </footer>
      <Confirm />
      <Toasts />
      {session.hasEnded.value && <SignInAgain />}
    </>
  );
}

function Screen() {
  const at = route.value;
  switch (at.screen) {
    case "batch":
      return <BatchScreen key={at.id} id={at.id} output={at.output} />;
    case "history":
      return <History />;
    case "usage":
      return <Usage />;
    case "shared": // the app shows it by itself
      return null;
    case "new":
      return <NewBatch />;
  }
}

function Header() {
  const { screen } = route.value;
  const link = (to: string, name: string, isHere: boolean) => (
    <a href={to} aria-current={isHere ? "page" : undefined}>
      {name}
    </a>
  );
  return (
    <header class="top">
      <a class="brand" href="#/">
        <img src={new URL("./icon.svg", import.meta.url).href} alt="" width="28" height="28" />
        <span>{t.app.name}</span>
      </a>
      <nav aria-label={t.app.navigation}>
        {link("#/", t.app.new(screen === "new" ? 0 : items.value.length), screen === "new")}
        {link("#/batches", t.app.batches, screen === "history" || screen === "batch")}
        {link("#/usage", t.app.usage, screen === "usage")}
      </nav>
      <button type="button" class="quiet" onClick={signOut}>
        {t.app.signOut}
      </button>
    </header>
  );
}

function signOut() {
  if (pending.value.length && !confirm(t.app.signOutWhileSending)) return;
  for (const item of pending.value) item.pause();
  isArmed.value = false;
  session.end();
}
