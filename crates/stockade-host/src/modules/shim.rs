//! Temporary: until stockade-transpile is there.
use std::path::Path;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    TypeScript,
    Tsx,
    Jsx,
}
pub struct Options<'a> {
    pub specifier: &'a str,
    pub language: Language,
    pub module: bool,
}
pub struct Transpiled {
    pub code: String,
    pub source_map: String,
}
pub fn transpile(source: &str, options: &Options<'_>) -> Result<Transpiled, String> {
    use oxc::{
        codegen::{Codegen, CodegenOptions},
        parser::Parser,
        semantic::SemanticBuilder,
        span::SourceType,
        transformer::{TransformOptions, Transformer},
    };
    let a = oxc::allocator::Allocator::default();
    let kind = match options.language {
        Language::TypeScript => SourceType::ts(),
        Language::Tsx => SourceType::tsx(),
        Language::Jsx => SourceType::jsx(),
    };
    let parsed = Parser::new(&a, source, kind).parse();
    let mut program = parsed.program;
    if let Some(d) = parsed.diagnostics.first() {
        return Err(format!("{d:?}"));
    }
    let scoping = SemanticBuilder::new()
        .build(&program)
        .semantic
        .into_scoping();
    Transformer::new(
        &a,
        Path::new(options.specifier),
        &TransformOptions::default(),
    )
    .build_with_scoping(scoping, &mut program);
    let out = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(options.specifier.into()),
            ..Default::default()
        })
        .build(&program);
    Ok(Transpiled {
        code: out.code,
        source_map: out.map.map(|m| m.to_json_string()).unwrap_or_default(),
    })
}
