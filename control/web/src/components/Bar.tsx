/** A progress bar; `label` says of what. */
export function Bar({
  percent,
  label,
  tone,
}: {
  percent: number;
  label: string;
  tone?: "bad" | "still" | undefined;
}) {
  const value = Math.max(0, Math.min(100, percent));
  return (
    <div
      class={`bar ${tone ?? ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(value)}
    >
      <div class="bar-fill" style={{ transform: `translateX(${value - 100}%)` }} />
    </div>
  );
}
