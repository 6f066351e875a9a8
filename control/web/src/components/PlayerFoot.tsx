import type { ComponentChildren } from "preact";
import { t } from "../texts";
import { bytes, fileName } from "../words";
import { Icon } from "./Icon";
import { mediaUrl, type Shown } from "./ReadyTile";
import { SendVideo } from "./SendVideo";

interface Props {
  output: Shown;
  ticket: string;
  hasPrevious: boolean;
  hasNext: boolean;
  onStep: (by: number) => void;
  /** What stands beside the download. */
  children: ComponentChildren;
}

/** Below a player: the ways to the videos before and after, and the download of this one. */
export function PlayerFoot({ output, ticket, hasPrevious, hasNext, onStep, children }: Props) {
  return (
    <div class="row player-foot">
      <button type="button" aria-disabled={!hasPrevious} onClick={() => onStep(-1)}>
        <Icon name="left" />
        <span class="player-step">{t.player.previous}</span>
      </button>
      <div class="player-take">
        {children}
        <SendVideo key={output.output_id} output={output} ticket={ticket} />
        <a
          class="button primary"
          href={mediaUrl(output, ticket, "attachment")}
          download={fileName(output.name)}
        >
          <Icon name="download" />
          {t.player.download(bytes(output.size_bytes ?? 0))}
        </a>
      </div>
      <button type="button" aria-disabled={!hasNext} onClick={() => onStep(1)}>
        <span class="player-step">{t.player.next}</span>
        <Icon name="right" />
      </button>
    </div>
  );
}
