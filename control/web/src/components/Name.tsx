const TAIL = 12; // characters: a number or a date, and the ending

/** The name of a file, on one line: where there is too little room its middle is left out, not its end. */
export function Name({ of }: { of: string }) {
  const letters = [...of];
  if (letters.length <= 2 * TAIL) return <>{of}</>;
  return (
    <span class="name">
      <span>{letters.slice(0, -TAIL).join("")}</span>
      <span>{letters.slice(-TAIL).join("")}</span>
    </span>
  );
}
