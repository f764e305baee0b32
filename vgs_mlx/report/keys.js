// Arrow keys move from token to token of an answer, so that each answer is one stop of the Tab key.
document.addEventListener("keydown", (event) => {
  const token = event.target;
  if (!token.classList || !token.classList.contains("t")) return;
  const tokens = Array.from(token.parentElement.querySelectorAll(".t"));
  const here = tokens.indexOf(token);
  const places = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tokens.length - 1 };
  const next = tokens[places[event.key]];
  if (event.key === "Escape") token.blur();
  if (!next) return;
  event.preventDefault();
  token.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
