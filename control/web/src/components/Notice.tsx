import type { ComponentChildren } from "preact";
import { Icon } from "./Icon";

/** Something that someone should know now. A screen reader says it when it appears. */
export function Notice({
  tone = "plain",
  children,
}: {
  tone?: "plain" | "bad";
  children: ComponentChildren;
}) {
  return (
    <div class={`notice ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      {tone === "bad" && <Icon name="warn" />}
      <div>{children}</div>
    </div>
  );
}
