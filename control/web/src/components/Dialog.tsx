import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { t } from "../texts";
import { Again } from "./Again";
import { Icon } from "./Icon";
import { Name } from "./Name";

interface Props {
  title: string;
  /** Asked for by Escape, the cross or a click beside; without it the dialog stays. */
  onClose?: () => void;
  kind?: "small" | "player";
  children: ComponentChildren;
}

/** A modal dialog: the browser's own, which keeps the focus inside; at its end it goes back. */
export function Dialog({ title, onClose, kind = "small", children }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    ref.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
      else document.getElementById("main")?.focus({ preventScroll: true }); // as after a step to another screen
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it, as the browser does by itself
    <dialog
      ref={ref}
      class={`dialog ${kind}`}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose?.();
      }}
      onClose={() => (onClose ? onClose() : ref.current?.showModal())} // a second Escape is not to be prevented
      onClick={(event) => event.target === ref.current && onClose?.()}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id={id} title={kind === "player" ? title : undefined}>
            {kind === "player" ? <Name of={title} /> : title}
          </h2>
          {onClose && (
            <button type="button" class="quiet square" onClick={onClose} aria-label={t.dialog.close}>
              <Icon name="close" />
            </button>
          )}
        </header>
        {children}
        <Again />
      </div>
    </dialog>
  );
}
