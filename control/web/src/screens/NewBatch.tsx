import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Choices } from "../components/Choices";
import { CHOOSER_ID, DraftVideos, ORDER_ID } from "../components/DraftVideos";
import { Icon } from "../components/Icon";
import { Notice } from "../components/Notice";
import { Price } from "../components/Price";
import { Start } from "../components/Start";
import { add, addUrls, items } from "../draft";
import { dropped, ofFolder } from "../files";
import { t } from "../texts";

const ACCEPT = "video/*,.mp4,.mov,.m4v,.qt,.3gp,.3g2";
const IS_TOUCH = matchMedia("(pointer: coarse)").matches; // nothing is dropped there
const TAKES_FOLDERS = "webkitdirectory" in HTMLInputElement.prototype;

const say = t.newBatch;

export function NewBatch() {
  const isEmpty = items.value.length === 0;
  const emptyTitle = IS_TOUCH ? say.emptyTitleTouch : say.emptyTitle;
  return (
    <DropTarget>
      <div class={`new ${isEmpty ? "empty" : ""}`}>
        <h1>{isEmpty ? emptyTitle : say.title}</h1>
        {isEmpty && <p class="lead">{say.lead}</p>}
        <div class="new-columns">
          <section class="stack" aria-label={say.videos}>
            <Chooser isLarge={isEmpty} />
            {!isEmpty && <DraftVideos />}
          </section>
          {!isEmpty && (
            <section id={ORDER_ID} class="card stack order" aria-label={say.what} tabIndex={-1}>
              <Choices />
              <Price />
            </section>
          )}
        </div>
        {!isEmpty && <Start />}
      </div>
    </DropTarget>
  );
}

/** The whole screen takes files and folders. */
function DropTarget({ children }: { children: ComponentChildren }) {
  const isOver = useSignal(0); // entered and not left
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (hasFiles(event)) isOver.value += 1;
    };
    const leave = (event: DragEvent) => {
      if (hasFiles(event)) isOver.value -= 1;
    };
    const drop = async (event: DragEvent) => {
      event.preventDefault();
      isOver.value = 0;
      if (event.dataTransfer) add(await dropped(event.dataTransfer));
    };
    const all = new AbortController();
    const on = <Name extends keyof WindowEventMap>(name: Name, take: (event: WindowEventMap[Name]) => void) =>
      addEventListener(name, take, { signal: all.signal });
    on("dragenter", enter);
    on("dragleave", leave);
    on("dragover", (event) => event.preventDefault());
    on("drop", drop);
    on("paste", ({ clipboardData, target }) => {
      add(clipboardData?.files ?? []);
      const isTyping = target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
      if (!isTyping) addUrls(clipboardData?.getData("text/plain") ?? "");
    });
    return () => all.abort();
  }, []);
  return (
    <>
      {children}
      {isOver.value > 0 && (
        <div class="drop-over" aria-hidden="true">
          <p>
            <Icon name="upload" /> {say.drop}
          </p>
        </div>
      )}
    </>
  );
}

function Chooser({ isLarge }: { isLarge: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  const paster = useRef<HTMLButtonElement>(null);
  const isPasting = useSignal(false);
  return (
    <div class={`drop ${isLarge ? "large" : ""}`}>
      {isLarge && (
        <div class="drop-icon">
          <Icon name="upload" />
        </div>
      )}
      <div class="drop-buttons">
        <button
          id={CHOOSER_ID}
          type="button"
          class={isLarge ? "primary" : ""}
          onClick={() => input.current?.click()}
        >
          {isLarge ? say.choose : say.add}
        </button>
        {TAKES_FOLDERS && <FolderChooser isLarge={isLarge} />}
        <button
          ref={paster}
          type="button"
          class="quiet"
          aria-expanded={isPasting.value}
          onClick={() => {
            isPasting.value = !isPasting.value;
          }}
        >
          {isLarge ? say.pasteLinks : say.addLinks}
        </button>
      </div>
      <p class="muted small">{isLarge ? say.hint : say.hintMore}</p>
      <input
        ref={input}
        type="file"
        class="hidden"
        accept={ACCEPT}
        multiple
        aria-label={say.videos}
        tabIndex={-1}
        onChange={(event) => {
          add(event.currentTarget.files ?? []);
          event.currentTarget.value = ""; // so that the same file can be picked again
        }}
      />
      {isPasting.value && (
        <Links
          onDone={() => {
            isPasting.value = false;
            paster.current?.focus(); // the focus was in what goes
          }}
        />
      )}
    </div>
  );
}

function FolderChooser({ isLarge }: { isLarge: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.setAttribute("webkitdirectory", ""), []);
  return (
    <>
      <button type="button" class="folder-button" onClick={() => input.current?.click()}>
        {isLarge ? say.chooseFolder : say.addFolder}
      </button>
      <input
        ref={input}
        type="file"
        class="hidden"
        multiple
        aria-label={say.folder}
        tabIndex={-1}
        onChange={(event) => {
          add(ofFolder(event.currentTarget.files ?? []));
          event.currentTarget.value = "";
        }}
      />
    </>
  );
}

function Links({ onDone }: { onDone: () => void }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = (event: Event) => {
    event.preventDefault();
    const bad = addUrls(field.current?.value ?? "");
    if (!bad.length) return onDone();
    problem.value = say.notAddresses(bad.join(", "));
    if (field.current) field.current.value = bad.join("\n");
  };
  return (
    <form class="stack links" onSubmit={submit}>
      <label class="field">
        <span>{say.links}</span>
        <textarea ref={field} rows={3} placeholder="https://…" spellcheck={false} />
      </label>
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      <button type="submit">{say.addTheseLinks}</button>
    </form>
  );
}
