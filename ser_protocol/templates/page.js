// What a click on a part of the page does: a segment plays, anything else with data is told to the server.
let stopAt = null;
element.addEventListener("click", (event) => {
  const segment = event.target.closest("[data-start]");
  if (segment) {
    const player = element.querySelector("audio");
    player.currentTime = Number(segment.dataset.start);
    stopAt = Number(segment.dataset.end);
    player.play();
    return;
  }
  const part = event.target.closest("[data-truth], [data-speaker], [data-clip]");
  if (part) trigger("click", { ...part.dataset });
});
// Events of audio do not bubble.
element.addEventListener("timeupdate", (event) => {
  const player = event.target;
  if (stopAt !== null && player.currentTime >= stopAt) {
    stopAt = null;
    player.pause();
  }
  const playhead = element.querySelector(".playhead");
  if (!playhead || !player.duration) return;
  const [left, right] = [Number(playhead.dataset.left), Number(playhead.dataset.right)];
  playhead.style.left = `${100 * (left + ((right - left) * player.currentTime) / player.duration)}%`;
  playhead.hidden = false;
}, true);
