// Draws a result on a canvas: masks, boxes, keypoints, and labels that do not cover each other.
import { paint } from "./rle.js";

const GOLDEN = 0.618033988749895; // the colors of resdet/results/drawing.py
const TONES = [[0.9, 1.0], [0.65, 0.75], [0.5, 1.0]];
const MIN_KEYPOINT_SCORE = 2.0;
const FONT = 13, PAD = 3; // pixels of the screen
const ENLARGED = 640, MOST = 8; // as in resdet/results/drawing.py

export function colorOf(label) {
  const [saturation, value] = TONES[label % TONES.length], hue = 6 * ((label * GOLDEN) % 1);
  const channel = (n) => {
    const k = (n + hue) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

export function css([red, green, blue]) {
  return `rgb(${red}, ${green}, ${blue})`;
}

function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
}

// Sizes a canvas for an image; a small one is enlarged.
export function fit(canvas, { width, height }) {
  const factor = Math.min(Math.ceil(ENLARGED / Math.max(width, height)), MOST);
  [canvas.width, canvas.height] = [factor * width, factor * height];
}

// `scale`: pixels of the canvas per pixel of the screen.
export function draw(canvas, image, detections, skeleton, scale) {
  const context = canvas.getContext("2d"), factor = canvas.width / image.width;
  context.setTransform(factor, 0, 0, factor, 0, 0); // from here on, in pixels of the image
  scale /= factor;
  context.drawImage(image, 0, 0);
  drawMasks(context, detections, image);
  context.lineWidth = 2 * scale;
  for (const { box: [left, top, right, bottom], label } of [...detections].reverse()) {
    context.strokeStyle = css(colorOf(label));
    context.strokeRect(left, top, right - left, bottom - top);
  }
  for (const detection of [...detections].reverse()) drawKeypoints(context, detection, skeleton, scale);
  drawLabels(context, detections, image, scale);
}

function drawMasks(context, detections, { width, height }) {
  const masked = detections.filter((each) => each.segmentation);
  if (!masked.length) return;
  const layer = new OffscreenCanvas(width, height), pixels = new ImageData(width, height);
  for (const { segmentation, label } of [...masked].reverse()) paint(segmentation, pixels.data, [...colorOf(label), 115]);
  layer.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0);
  context.imageSmoothingEnabled = true;
}

function drawKeypoints(context, { keypoints, label }, skeleton, scale) {
  if (!keypoints) return;
  const points = Object.values(keypoints), seen = ([, , score]) => score > MIN_KEYPOINT_SCORE;
  context.strokeStyle = context.fillStyle = css(colorOf(label));
  for (const [a, b] of (skeleton || []).filter((pair) => pair.every((k) => seen(points[k])))) {
    context.beginPath();
    context.moveTo(points[a][0], points[a][1]);
    context.lineTo(points[b][0], points[b][1]);
    context.stroke();
  }
  for (const [x, y] of points.filter(seen)) {
    context.beginPath();
    context.arc(x, y, 3 * scale, 0, 2 * Math.PI);
    context.fill();
  }
}

function drawLabels(context, detections, { width, height: bottom }, scale) {
  context.font = `600 ${FONT * scale}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const height = (FONT + 2 * PAD) * scale;
  const texts = detections.map(({ name, score }) => `${name} ${score.toFixed(2)}`);
  const sizes = texts.map((text) => [context.measureText(text).width + 2 * PAD * scale, height]);
  const places = placeLabels(detections.map((each) => each.box), sizes, width, bottom);
  places.forEach((place, number) => {
    if (!place) return;
    const color = colorOf(detections[number].label);
    context.fillStyle = css(color);
    context.fillRect(place[0], place[1], ...sizes[number]);
    context.fillStyle = inkOn(color);
    context.fillText(texts[number], place[0] + PAD * scale, place[1] + PAD * scale);
  });
}

// The corner [x, y] of each label, best first: at the box, else lower along it; null where it would cover another one.
export function placeLabels(boxes, sizes, width, height) {
  const taken = [];
  return boxes.map((box, number) => {
    const [w, h] = sizes[number];
    const place = [...around(box, w, h)]
      .map(([x, y]) => [Math.max(0, Math.min(x, width - w)), Math.max(0, Math.min(y, height - h))])
      .find(([x, y]) => taken.every(([a, b, c, d]) => x >= c || a >= x + w || y >= d || b >= y + h));
    if (place) taken.push([place[0], place[1], place[0] + w, place[1] + h]);
    return place || null;
  });
}

function* around([left, top, right, bottom], w, h) {
  yield [left, top - h];
  yield [right - w, top - h];
  yield [left, top];
  yield [right - w, top];
  yield [left, bottom];
  yield [right - w, bottom];
  for (let y = top + h; y + h <= bottom; y += h) yield [left, y];
  for (let y = top + h; y + h <= bottom; y += h) yield [right, y];
}
