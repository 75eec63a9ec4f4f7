const form = document.querySelector('form');
const list = document.querySelector('ul');

async function show() {
  const notes = await (await fetch('/api/notes')).json();
  list.replaceChildren(...notes.map(({ id, text }) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    button.textContent = 'Delete';
    button.addEventListener('click', async () => {
      await fetch(`/api/notes/${id}`, { method: 'DELETE' });
      await show();
    });
    item.append(text, button);
    return item;
  }));
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  await fetch('/api/notes', { method: 'POST', body: form.elements.text.value });
  form.reset();
  await show();
});

await show();
