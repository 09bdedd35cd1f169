import { area } from "./rle.js";

// Results as files. An entry is { name, result: what the server sent, shown: the detections that are visible }.
export function toCoco(entries) {
  const images = entries.map(({ name, result }, number) => (
    { id: number + 1, file_name: name, width: result.width, height: result.height }));
  const categories = new Map();
  const annotations = entries.flatMap(({ shown }, number) => shown.map((each) => {
    categories.set(each.category_id, each.name);
    const [left, top, right, bottom] = each.box;
    const annotation = { image_id: number + 1, category_id: each.category_id, iscrowd: 0, score: each.score,
      bbox: [left, top, right - left, bottom - top],
      area: each.segmentation ? area(each.segmentation) : (right - left) * (bottom - top) };
    if (each.segmentation) annotation.segmentation = each.segmentation;
    if (each.keypoints) annotation.keypoints = Object.values(each.keypoints).flatMap(([x, y]) => [x - 0.5, y - 0.5, 1]);
    return annotation;
  }));
  annotations.forEach((annotation, number) => { annotation.id = number + 1; });
  return { images, annotations, categories: [...categories].sort((a, b) => a[0] - b[0]).map(([id, name]) => ({ id, name })) };
}

export function toCsv(entries) {
  const detections = entries.flatMap(({ name, shown }) => (shown || []).map((each) => (
    [name, each.name, each.label, each.category_id, each.score, ...each.box])));
  const classes = entries.filter(({ result }) => result.names).flatMap(({ name, result }) => (
    result.names.map((each, k) => [name, each, result.labels[k], result.scores[k]])));
  const rows = classes.length
    ? [["image", "name", "label", "score"], ...classes]
    : [["image", "name", "label", "category_id", "score", "x1", "y1", "x2", "y2"], ...detections];
  return rows.map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function quoted(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
