//! Measures a parsed program before names are resolved and enums evaluated: what that needs is not bounded by the text.
//!
//! The compiler looks each name up in one scope after the other, and a name of an enum or namespace in each of the
//! declarations that are merged. It also replaces each member of an enum by its value, which may be the text of other
//! members several times: thirty members that each double the one before it are gigabytes.
//!
//! Invariant: both are bounded from above in one walk, which takes time and memory in proportion to the program. The walk
//! goes in the compiler's order, since a member is evaluated from what was evaluated before it.
//!
//! What this does not: find errors, or evaluate anything.

use std::cell::Cell;
use std::collections::HashMap;

use oxc::ast::ast::{
    Expression, IdentifierReference, LabelIdentifier, LabeledStatement, Program, TSEnumDeclaration,
    TSEnumMemberName, TSNamespaceDeclaration,
};
use oxc::ast_visit::{Visit, walk};
use oxc::syntax::scope::{ScopeFlags, ScopeId};

/// Steps of looking up names, at most: a second or two.
pub(crate) const MAX_LOOKUPS: u64 = 200_000_000;

/// Bytes of the values of enums, and of the texts that are joined to them, at most.
pub(crate) const MAX_ENUM_BYTES: u64 = 16 << 20;

/// Bytes of the longest number as text.
const NUMBER: u64 = 32;

/// A program that needs more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// Where the limit was passed, as a byte of the source.
    pub(crate) byte: usize,
    /// Which limit, and how to stay below it.
    pub(crate) message: &'static str,
}

/// Measures a program.
///
/// # Errors
/// Where it passes a limit, if it does.
pub(crate) fn measure(program: &Program<'_>) -> Result<(), Excess> {
    let mut measured = Measure::default();
    measured.visit_program(program);
    match measured.excess {
        Some(excess) => Err(excess),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Measure<'a> {
    /// Scopes and labels around the current place.
    scopes: u64,
    labels: u64,
    lookups: u64,
    /// How often each enum or namespace was declared, whichever scope it is in.
    declared: HashMap<&'a str, u64>,
    /// The longest value of a member of any enum, by its name.
    values: HashMap<&'a str, u64>,
    enum_bytes: u64,
    excess: Option<Excess>,
}

impl<'a> Measure<'a> {
    fn look_up(&mut self, steps: u64, byte: u32) {
        self.lookups = self.lookups.saturating_add(steps);
        if self.lookups > MAX_LOOKUPS {
            self.exceed(
                byte,
                "names are looked up in too many scopes or merged declarations; split the source into modules",
            );
        }
    }

    fn exceed(&mut self, byte: u32, message: &'static str) {
        self.excess.get_or_insert(Excess {
            byte: byte as usize,
            message,
        });
    }

    fn declare(&mut self, name: &'a str, byte: u32) {
        let before = self.declared.entry(name).or_default();
        *before += 1;
        let steps = *before;
        self.look_up(steps, byte);
    }

    /// Bytes of the value of a member that a name leads to; the enum is looked up in each of its declarations.
    fn value_of(&mut self, member: &str, owner: Option<&str>, byte: u32) -> u64 {
        let declared = owner.and_then(|owner| self.declared.get(owner)).copied();
        self.look_up(declared.unwrap_or(0), byte);
        self.values.get(member).copied().unwrap_or(0).max(NUMBER)
    }

    /// Bytes of the value of an expression in an enum, at most; counts what is copied to make it.
    fn value(&mut self, expression: &Expression<'a>, owner: &str) -> u64 {
        let bytes = match expression {
            Expression::Identifier(name) => {
                self.value_of(name.name.as_str(), Some(owner), name.span.start)
            }
            Expression::StaticMemberExpression(member) => {
                let of = name_of(&member.object);
                self.value_of(member.property.name.as_str(), of, member.span.start)
            }
            Expression::ComputedMemberExpression(member) => match &member.expression {
                Expression::StringLiteral(name) => {
                    let of = name_of(&member.object);
                    self.value_of(name.value.as_str(), of, member.span.start)
                }
                _ => 0,
            },
            Expression::BinaryExpression(pair) => {
                let left = self.value(&pair.left, owner);
                left.saturating_add(self.value(&pair.right, owner))
            }
            Expression::UnaryExpression(unary) => self.value(&unary.argument, owner),
            Expression::ParenthesizedExpression(inner) => self.value(&inner.expression, owner),
            Expression::StringLiteral(literal) => literal.value.as_str().len() as u64,
            Expression::TemplateLiteral(template) => {
                let mut bytes = 0_u64;
                for text in &template.quasis {
                    bytes = bytes.saturating_add(text.value.raw.as_str().len() as u64);
                }
                for inner in &template.expressions {
                    bytes = bytes.saturating_add(self.value(inner, owner));
                }
                bytes
            }
            _ => NUMBER,
        };
        self.enum_bytes = self.enum_bytes.saturating_add(bytes);
        bytes
    }
}

fn name_of<'e>(expression: &'e Expression<'_>) -> Option<&'e str> {
    match expression {
        Expression::Identifier(name) => Some(name.name.as_str()),
        _ => None,
    }
}

impl<'a> Visit<'a> for Measure<'a> {
    fn enter_scope(&mut self, _: ScopeFlags, _: &Cell<Option<ScopeId>>) {
        self.scopes += 1;
    }

    fn leave_scope(&mut self) {
        self.scopes = self.scopes.saturating_sub(1);
    }

    fn visit_identifier_reference(&mut self, name: &IdentifierReference<'a>) {
        self.look_up(self.scopes, name.span.start);
    }

    fn visit_labeled_statement(&mut self, statement: &LabeledStatement<'a>) {
        self.labels += 1;
        walk::walk_labeled_statement(self, statement);
        self.labels -= 1;
    }

    fn visit_label_identifier(&mut self, label: &LabelIdentifier<'a>) {
        self.look_up(self.labels, label.span.start);
    }

    fn visit_ts_namespace_declaration(&mut self, namespace: &TSNamespaceDeclaration<'a>) {
        self.declare(namespace.id.name.as_str(), namespace.span.start);
        walk::walk_ts_namespace_declaration(self, namespace);
    }

    fn visit_ts_enum_declaration(&mut self, declaration: &TSEnumDeclaration<'a>) {
        let owner = declaration.id.name.as_str();
        self.declare(owner, declaration.span.start);
        // What is declared within it is evaluated first.
        walk::walk_ts_enum_declaration(self, declaration);
        for member in &declaration.body.members {
            let Some(value) = &member.initializer else {
                continue;
            };
            let bytes = self.value(value, owner);
            if self.enum_bytes > MAX_ENUM_BYTES {
                let message = "the values of enums are too long; use constants for long texts";
                self.exceed(member.span.start, message);
            }
            let name = match &member.id {
                TSEnumMemberName::Identifier(name) => name.name.as_str(),
                TSEnumMemberName::String(name) | TSEnumMemberName::ComputedString(name) => {
                    name.value.as_str()
                }
                TSEnumMemberName::ComputedTemplateString(_) => continue,
            };
            let longest = self.values.entry(name).or_default();
            *longest = bytes.max(*longest);
        }
    }
}
