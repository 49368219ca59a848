// Points moved so that neighbours in all dimensions are neighbours on the plane, too: UMAP's forces (McInnes, Healy and
// Melville, 2018), from the principal components on. The same points always end in the same places.

const EPOCHS = 240;
// UMAP's curve for a least distance of 0.1 between points.
const [A, B] = [1.577, 0.895];
const REPULSIONS = 5;
const SIZE = 10;
const MAX_STEP = 4;

export class Layout {
  /** @param {Array<{x: number, y: number, neighborIndices: number[], neighborSimilarities: number[]}>} points */
  constructor(points) {
    const scale = SIZE / Math.max(1e-9, ...points.map(({ x, y }) => Math.max(Math.abs(x), Math.abs(y))));
    this.random = randomNumbers(1);
    // Copies of one chunk begin a little apart, for no force has a direction between equal places.
    this.places = points.map(({ x, y }) => [x * scale + this.random() * 1e-3, y * scale + this.random() * 1e-3]);
    this.edges = edgesOf(points);
    this.epoch = 0;
  }

  get isDone() {
    return this.epoch >= EPOCHS;
  }

  /** Take some steps. */
  advance(epochs) {
    const end = Math.min(EPOCHS, this.epoch + epochs);
    for (; this.epoch < end; this.epoch += 1) this.#move(1 - this.epoch / EPOCHS);
  }

  #move(rate) {
    const { places, edges, random } = this;
    for (const [from, to, weight] of edges) {
      // The weaker an edge, the rarer it pulls.
      if (random() > weight) continue;
      const [one, other] = [places[from], places[to]];
      push(one, other, pull(one, other), rate, true);
      for (let n = 0; n < REPULSIONS; n += 1) {
        const stranger = Math.floor(random() * places.length);
        if (stranger !== from) push(one, places[stranger], repel(one, places[stranger]), rate, false);
      }
    }
  }
}

function squaredDistance([x, y], [u, v]) {
  return (x - u) ** 2 + (y - v) ** 2;
}

function pull(one, other) {
  const squared = squaredDistance(one, other);
  return squared > 0 ? (-2 * A * B * squared ** (B - 1)) / (1 + A * squared ** B) : 0;
}

function repel(one, other) {
  const squared = squaredDistance(one, other);
  return (2 * B) / ((0.001 + squared) * (1 + A * squared ** B));
}

function push(one, other, force, rate, isMutual) {
  for (const axis of [0, 1]) {
    const step = rate * Math.max(-MAX_STEP, Math.min(MAX_STEP, force * (one[axis] - other[axis])));
    one[axis] += step;
    if (isMutual) other[axis] -= step;
  }
}

/** Each pair of neighbours once, with a weight of 0 to 1: 1 for the nearest of either. */
function edgesOf(points) {
  const weights = new Map();
  points.forEach(({ neighborIndices, neighborSimilarities }, from) => {
    const best = neighborSimilarities[0];
    const spread = Math.max(1e-4, best - (neighborSimilarities.at(-1) ?? best)) / 2;
    neighborIndices.forEach((to, n) => {
      const key = Math.min(from, to) * points.length + Math.max(from, to);
      const weight = Math.exp((neighborSimilarities[n] - best) / spread);
      const known = weights.get(key) ?? 0;
      weights.set(key, known + weight - known * weight);
    });
  });
  return [...weights].map(([key, weight]) => [Math.floor(key / points.length), key % points.length, weight]);
}

/** Numbers from 0 to 1, the same each time: mulberry32. */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296;
  };
}
