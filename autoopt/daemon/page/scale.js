// From values to pixels, and which values get a tick.

/** `domain` and `range` are pairs; a domain without width is widened, so that one point lies in the middle. */
export function linear(domain, range) {
  let [low, high] = domain;
  if (low === high) [low, high] = low === 0 ? [-1, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  const at = (value) => range[0] + ((value - low) / (high - low)) * (range[1] - range[0]);
  return { at, ticks: (count) => roundTicks(low, high, count) };
}

/** The same for positive values on a logarithmic axis. */
export function logarithmic(domain, range) {
  let [low, high] = domain.map(Math.log10);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const inner = linear([low, high], range);
  return { at: (value) => inner.at(Math.log10(value)), ticks: (count) => decadeTicks(low, high, count) };
}

/** Names at equal distances. */
export function categories(names, range) {
  const step = (range[1] - range[0]) / Math.max(1, names.length);
  const at = (name) => range[0] + step * (names.indexOf(name) + 0.5);
  const every = (count) => Math.ceil(names.length / Math.max(1, count));
  return { at, ticks: (count) => names.filter((_, i) => i % every(count) === 0) };
}

function roundTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((factor) => factor * size >= rough * (1 - 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

/** Powers of ten; where there are too few of them, their multiples too; where that is not enough, even steps. */
function decadeTicks(low, high, count) {
  const first = Math.ceil(low - 1e-9);
  const last = Math.floor(high + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / Math.max(2, count)));
  if (last - first >= 2) {
    return range(first, last).filter((power) => (power - first) % every === 0).map((power) => 10 ** power);
  }
  const found = range(Math.floor(low), last).flatMap((power) => [1, 2, 5].map((factor) => factor * 10 ** power));
  const inside = found.filter((value) => Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9);
  if (inside.length >= 3) return inside;
  return roundTicks(10 ** low, 10 ** high, count).filter((value) => value > 0);
}

function range(first, last) {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}

/** Whether a logarithmic axis shows more: positive values over more than a decade. */
export function wide(values) {
  if (values.length === 0) return false;
  const low = Math.min(...values);
  return low > 0 && Math.max(...values) > 10 * low;
}
