// Samples the frames of a video in the browser, one after another, each as soon as the one before is predicted.
const LONGEST = 1280; // pixels of a frame
const QUALITY = 0.85; // of its JPEG

export function frameOf(video) {
  const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(scale * video.videoWidth);
  canvas.height = Math.round(scale * video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas;
}

export function encoded(canvas) {
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}

// Calls `predict(frame, seconds)` for the current frame whenever it is another one, until the element is removed.
export async function sample(video, predict) {
  let last = -1;
  const step = async () => {
    if (!video.isConnected) return URL.revokeObjectURL(video.src);
    if (video.readyState >= 2 && video.currentTime !== last) {
      last = video.currentTime;
      await predict(frameOf(video), last);
    }
    setTimeout(step, 30);
  };
  await step();
}
