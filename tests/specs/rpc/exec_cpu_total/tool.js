// Never long at a time.
setInterval(() => {
  const end = performance.now() + 20;
  while (performance.now() < end);
}, 0);
