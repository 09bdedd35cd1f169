// COCO's compressed run lengths: runs of zeros and ones in turn, down each column; six bits a character.
export function runsOf(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const bits = text.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      more = (bits & 32) !== 0;
      shift += 5;
      if (!more && bits & 16) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

// The number of pixels of a mask.
export function area({ counts }) {
  return runsOf(counts).reduce((sum, run, number) => sum + (number % 2 ? run : 0), 0);
}

// Writes a color [r, g, b, alpha] to the pixels of a mask in the RGBA data of an image of its size.
export function paint({ size: [height, width], counts }, data, color) {
  let at = 0;
  runsOf(counts).forEach((run, number) => {
    if (number % 2) {
      for (let place = at; place < at + run; place++) {
        data.set(color, 4 * ((place % height) * width + Math.floor(place / height)));
      }
    }
    at += run;
  });
}
