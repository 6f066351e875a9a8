import { useEffect, useRef } from "preact/hooks";
import { go, replace } from "../route";

type Played = { output_id: string } | null;

/**
 * How to play another output, or none: the player is an entry of the history, and Back closes it. `link` leads to
 * the screen with this output in the player, without an argument to the screen alone.
 */
export function usePlaying(link: (output?: string) => string, output: string | null): (next: Played) => void {
  const isOver = useRef(false); // the entry before is the screen itself
  const shown = useRef(output); // tiles keep the function of an earlier drawing
  shown.current = output;
  useEffect(() => {
    if (!output) isOver.current = false;
  }, [output]);
  return (next) => {
    if (next && shown.current) return replace(link(next.output_id));
    if (next) go(link(next.output_id));
    else if (isOver.current) history.back();
    else replace(link());
    isOver.current = next !== null;
  };
}
