await fetch("https://example.com/").catch((error) => console.log(error.message));
