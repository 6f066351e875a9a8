import type { ComponentChildren } from "preact";
import { address } from "../api";
import type { Output } from "../shapes";
import { t } from "../texts";
import { bytes, fileName, length, outputLabel } from "../words";
import { Icon } from "./Icon";
import { useBroken } from "./useBroken";

/** What is shown of an output that is ready, to whoever may see it. */
export type Shown = Pick<
  Output,
  "output_id" | "name" | "variation" | "preset" | "poster" | "size_bytes" | "duration_s"
>;

/** The address of an output's video, to play or to save. */
export function mediaUrl(output: Shown, ticket: string, disposition: "inline" | "attachment"): string {
  return address(`outputs/${output.output_id}?${new URLSearchParams({ ticket, disposition })}`);
}

interface Props {
  output: Shown;
  ticket: string;
  onPlay: () => void;
  /** Told the size of the picture once it is there. */
  onShape?: ((width: number, height: number) => void) | undefined;
  onEnter?: ((event: PointerEvent) => void) | undefined;
  onLeave?: (() => void) | undefined;
  /** What stands over the picture in place of the sign that it plays. */
  over?: ComponentChildren;
  /** What stands in a corner of the picture, after it in the order of Tab. */
  beside?: ComponentChildren;
  /** What stands below the name. */
  children?: ComponentChildren;
}

/** The inside of a tile: the picture, which plays the video, its name and its download. */
export function ReadyTile({
  output,
  ticket,
  onPlay,
  onShape,
  onEnter,
  onLeave,
  over,
  beside,
  children,
}: Props) {
  const label = outputLabel(output);
  const duration = output.duration_s ? length(output.duration_s) : "";
  return (
    <>
      <button
        type="button"
        class="tile-picture"
        onClick={onPlay}
        aria-label={t.readyTile.play(label, duration)}
        onPointerEnter={onEnter}
        onPointerLeave={onLeave}
      >
        <Poster output={output} ticket={ticket} onShape={onShape} />
        {over || (
          <span class="tile-play">
            <Icon name="play" />
          </span>
        )}
        {duration && <span class="tile-length">{duration}</span>}
      </button>
      {beside}
      <div class="tile-text">
        <div class="row">
          <strong class="small">{label}</strong>
          <a
            class="quiet square"
            href={mediaUrl(output, ticket, "attachment")}
            download={fileName(output.name)}
            aria-label={t.readyTile.download(label)}
            title={t.readyTile.downloadSize(output.size_bytes ? bytes(output.size_bytes) : "")}
          >
            <Icon name="download" />
          </a>
        </div>
        {children}
      </div>
    </>
  );
}

function Poster({ output, ticket, onShape }: Pick<Props, "output" | "ticket" | "onShape">) {
  const url = address(`outputs/${output.output_id}/poster?${new URLSearchParams({ ticket })}`);
  const broken = useBroken();
  if (!output.poster || broken.has(url)) return <Icon name="film" />;
  return (
    <img
      src={url}
      alt=""
      loading="lazy"
      onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => onShape?.(naturalWidth, naturalHeight)}
      onError={() => broken.add(url)}
    />
  );
}
