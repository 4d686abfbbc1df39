// Markers: one shape for each length of a trial, so that colour is not the only thing that tells points apart.

import { svg } from "./dom.js";

export const SHAPES = ["circle", "diamond", "square", "triangle", "star", "plus", "hexagon"];

const CORNERS = {
  diamond: polygon(4, 1.25, 0),
  square: polygon(4, 1.2, 45),
  triangle: polygon(3, 1.25, 0),
  hexagon: polygon(6, 1.1, 0),
  star: star(5, 1.4, 0.6),
};

/** A marker; `radius` in pixels. A "cross" is an x, as of what failed. */
export function symbol(shape, x, y, radius, { colour, open = false, ring = false, opacity = 1 }) {
  const strokes = shape === "cross" || shape === "plus";
  const look = {
    fill: open || strokes ? "none" : colour,
    stroke: colour,
    "stroke-width": open || strokes ? 2 : 0,
    opacity,
    class: ring ? "ring" : null,
  };
  if (shape === "circle" || !(shape in CORNERS || strokes)) return svg("circle", { cx: x, cy: y, r: radius, ...look });
  if (strokes) {
    const r = shape === "cross" ? 0.8 * radius : radius;
    const lines = shape === "cross" ? `M-${r} -${r}L${r} ${r}M-${r} ${r}L${r} -${r}` : `M-${r} 0H${r}M0 -${r}V${r}`;
    return svg("path", { d: lines, transform: `translate(${x} ${y})`, ...look });
  }
  const points = CORNERS[shape].map(([a, b]) => `${(x + a * radius).toFixed(1)},${(y + b * radius).toFixed(1)}`);
  return svg("polygon", { points: points.join(" "), ...look });
}

function polygon(corners, size, turned) {
  return star(corners, size, null, turned);
}

function star(corners, outer, inner, turned = 0) {
  const count = inner === null ? corners : 2 * corners;
  return Array.from({ length: count }, (_, i) => {
    const angle = (2 * Math.PI * i) / count - Math.PI / 2 + (turned * Math.PI) / 180;
    const size = inner !== null && i % 2 ? inner : outer;
    return [size * Math.cos(angle), size * Math.sin(angle)];
  });
}
