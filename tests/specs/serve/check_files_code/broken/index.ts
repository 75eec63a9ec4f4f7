const name: string = ;
export default { fetch: () => new Response(name) };
