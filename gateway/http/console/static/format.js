// Figures and times as people read them.

const COUNT = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86_400, "hour", 3600],
  [30 * 86_400, "day", 86_400],
  [365 * 86_400, "month", 30 * 86_400],
  [Infinity, "year", 365 * 86_400],
];

/** 12345 or "12345" (int64 is a string in JSON) as 12,345. */
export function count(value) {
  return COUNT.format(Number(value ?? 0));
}

/** "1 chunk", "2 chunks". */
export function counted(value, noun, plural = `${noun}s`) {
  return `${count(value)} ${Number(value) === 1 ? noun : plural}`;
}

export function percent(share, digits = 0) {
  return `${(share * 100).toFixed(digits)} %`;
}

/** A similarity or score: two digits are what differs from hit to hit, three what can be compared. */
export function score(value) {
  return value === undefined || value === null ? "–" : value.toFixed(3);
}

export function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

/** "3 hours ago" of a time in RFC 3339. */
export function ago(time, now = Date.now()) {
  const seconds = (new Date(time).getTime() - now) / 1000;
  const [, unit, size] = STEPS.find(([limit]) => Math.abs(seconds) < limit);
  return RELATIVE.format(Math.round(seconds / size), unit);
}

export function at(time) {
  return TIME.format(new Date(time));
}

/** 93 as "1 min 33 s". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "unknown";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** TRAINING_STATE_RUNNING as "running". */
export function enumName(value, prefix) {
  return (value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
}
