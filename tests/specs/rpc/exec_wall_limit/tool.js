const end = Date.now() + 60_000;
while (Date.now() < end);
