//! What a module asks for by name.

use oxc::allocator::Allocator;
use oxc::parser::Parser;

use crate::compile::MAX_SOURCE_BYTES;
use crate::confine::confined;
use crate::language::Language;
use crate::weigh;

/// The specifiers that a module imports: `import` and `export … from`, except for types only, and
/// `import()` of a literal text. Each once.
///
/// `None` if that cannot be determined: the source is not a module, or is beyond the bounds of
/// [`transpile`](crate::transpile). Running the module reports what is wrong.
#[must_use]
pub fn imports(source: &str, language: Language) -> Option<Vec<String>> {
    if source.len() > MAX_SOURCE_BYTES {
        return None;
    }
    let weight = weigh::weigh(source, language.has_jsx()).ok()?;
    let stack = weight.levels.saturating_mul(weigh::BYTES_PER_LEVEL);
    confined(stack, || parse(source, language)).ok().flatten()
}

fn parse(source: &str, language: Language) -> Option<Vec<String>> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, language.source_type(true)).parse();
    if parsed.panicked {
        return None;
    }
    let record = parsed.module_record;
    let mut found = Vec::new();
    for (specifier, requests) in &record.requested_modules {
        if requests.iter().any(|request| !request.is_type) {
            found.push(specifier.to_string());
        }
    }
    for import in &record.dynamic_imports {
        let span = import.module_request;
        let text = source.get(span.start as usize..span.end as usize);
        found.extend(text.and_then(literal));
    }
    found.sort();
    found.dedup();
    Some(found)
}

/// The value of a literal without escapes.
fn literal(text: &str) -> Option<String> {
    ['"', '\'', '`'].iter().find_map(|quote| {
        let inner = text.strip_prefix(*quote)?.strip_suffix(*quote)?;
        let plain = !inner.contains(['\\', '$', *quote]);
        plain.then(|| inner.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str) -> Vec<String> {
        imports(source, Language::TypeScript).unwrap()
    }

    #[test]
    fn imports_of_every_form_are_found_once() {
        let source = "
            import a, { type T } from './a.ts';
            import './b.ts';
            export * from './c.ts';
            export { x } from \"./d.ts\";
            import data from './e.json' with { type: 'json' };
            const f = await import('./f.ts'), g = await import(`./g.ts`), again = import('./a.ts');
        ";
        assert_eq!(
            of(source),
            [
                "./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.json", "./f.ts", "./g.ts"
            ]
        );
    }

    #[test]
    fn imports_of_types_and_of_computed_names_are_not() {
        let source = "
            import type { T } from './types.ts';
            export type { U } from './types.ts';
            const name = './x.ts';
            import(name); import('./' + name); import(`./${name}`);
        ";
        assert!(of(source).is_empty());
    }

    #[test]
    fn imports_of_what_is_too_deep_are_unknown() {
        let deep = "[".repeat(weigh::MAX_LEVELS + 1);
        assert_eq!(imports(&deep, Language::JavaScript), None);
        assert_eq!(
            imports("export const a = 1;", Language::JavaScript),
            Some(vec![])
        );
    }
}
