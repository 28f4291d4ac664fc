// Runs in a page after it is drawn: which text is faint, what sticks out, what is there to read and to see.
const rgb = color => color.match(/[\d.]+/g).map(Number);
const linear = v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

function ground(element) {
  for (let e = element; e; e = e.parentElement) {
    const color = rgb(getComputedStyle(e).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
}

function faint(element) {
  const style = getComputedStyle(element);
  const color = rgb(element.ownerSVGElement ? style.fill : style.color);
  return contrast(luminance(color), luminance(ground(element))) < 4.5;
}

function sticksOut(element) {
  const a = element.getBoundingClientRect(), b = element.ownerSVGElement.getBoundingClientRect();
  return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
}

const all = selector => [...document.querySelectorAll(selector)];
const says = e => e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
const seen = {
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  text: document.body.innerText,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  faint: all("body *:not(script)").filter(says).filter(faint).map(e => e.textContent),
  outside: all("svg text, svg path, svg rect").filter(sticksOut).map(e => e.outerHTML),
  charts: all("svg[role=img]").map(e => [
    e.getAttribute("aria-label"),
    e.getBoundingClientRect().width > 200 && e.querySelectorAll("path, rect").length > 0,
  ]),
  cut: all(".scroll").filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText),
  bars: all(".bar rect:last-child").map(e => Math.round(e.getBoundingClientRect().width)),
  fetched: performance.getEntriesByType("resource").map(e => e.name),
};
const out = document.createElement("pre");
out.id = "seen";
out.textContent = JSON.stringify(seen);
document.body.append(out);
