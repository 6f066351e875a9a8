import { useLayoutEffect, useRef } from "preact/hooks";

/** A line, and how far below the upper edge of the window it is. */
export interface Place {
  id: string;
  top: number;
}

const LOOKED_AT = [160, 175]; // px below the upper edge: one of them is not between two lines

/** Scroll to where the screen was left, and tell at its end where that is: by a line, since heights are estimates. */
export function useKeptPlace(before: Place | null, leave: (place: Place | null) => void) {
  const place = useRef(before);
  const leaving = useRef(leave);
  leaving.current = leave;
  useLayoutEffect(() => {
    const back = before && document.getElementById(before.id);
    if (back) scrollBy(0, back.getBoundingClientRect().top - before.top);
    const note = () => {
      const line = LOOKED_AT.map((y) =>
        document.elementFromPoint(innerWidth / 2, y)?.closest(".batch-item"),
      ).find(Boolean);
      place.current = line && scrollY > 0 ? { id: line.id, top: line.getBoundingClientRect().top } : null;
    };
    addEventListener("scroll", note, { passive: true });
    return () => {
      removeEventListener("scroll", note);
      leaving.current(place.current);
      scrollTo(0, 0);
    };
  }, []);
}
