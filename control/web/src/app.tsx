import { useEffect } from "preact/hooks";
import { isArmed, items, pending } from "./draft";
import { route } from "./route";
import { BatchScreen } from "./screens/Batch";
import { History } from "./screens/History";
import { NewBatch } from "./screens/NewBatch";
import { SignIn, SignInAgain } from "./screens/SignIn";
import { Usage } from "./screens/Usage";
import * as session from "./session";

const TITLES = { new: "New batch", history: "Batches", usage: "Usage", batch: "Batch" };

export function App() {
  const { screen } = route.value;
  const isSignedIn = session.token.value !== null;
  useEffect(() => {
    document.title = `${TITLES[screen]} · Video Refresher`;
    if (isSignedIn) document.getElementById("main")?.focus();
  }, [screen, isSignedIn]);
  if (!isSignedIn) return <SignIn />;
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <Header />
      <main id="main" tabIndex={-1}>
        <Screen />
      </main>
      {session.hasEnded.value && <SignInAgain />}
    </>
  );
}

function Screen() {
  const at = route.value;
  switch (at.screen) {
    case "batch":
      return <BatchScreen key={at.id} id={at.id} />;
    case "history":
      return <History />;
    case "usage":
      return <Usage />;
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
        <span>Video Refresher</span>
      </a>
      <nav aria-label="Main">
        {link(
          "#/",
          screen !== "new" && items.value.length ? `New (${items.value.length})` : "New",
          screen === "new",
        )}
        {link("#/batches", "Batches", screen === "history" || screen === "batch")}
        {link("#/usage", "Usage", screen === "usage")}
      </nav>
      <button type="button" class="quiet" onClick={signOut}>
        Sign out
      </button>
    </header>
  );
}

function signOut() {
  if (pending.value.length && !confirm("Videos are still being uploaded. Sign out and stop them?")) return;
  for (const item of pending.value) item.pause();
  isArmed.value = false;
  session.end();
}
