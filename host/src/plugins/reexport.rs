//! Makes the calls of a component cheaper, whatever it was written in.
//!
//! wasmtime looks a function that a component lifts up anew for each call, in the tables of the module that defines
//! it: more instructions than a short decision takes. A function that a module has imported needs no looking up. So
//! a module goes between, which imports the functions that are lifted and exports them again. It has no code; a
//! call goes past it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;

use wasm_encoder::reencode::component_utils as reencode;
use wasm_encoder::reencode::{Error as ReencodeError, Reencode, ReencodeComponent, RoundtripReencoder};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, EntityType, ExportKind, ExportSection,
    ImportSection, InstanceSection, Module, ModuleArg, ModuleSection, RawSection, TypeSection,
};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType,
    ComponentTypeRef, ExternalKind, FuncType, Instance, KnownCustom, Parser, Payload, TypeRef,
};

/// The same component, whose lifted functions are all imported ones. `None` when it is built in a way that leaves
/// nothing to do here, or nothing that is known to work: it works as it is.
pub(super) fn imported(component: &[u8]) -> Option<Vec<u8>> {
    let payloads = payloads(component)?;
    let plan = Plan::of(component, &payloads)?;
    rewrite(component, &payloads, plan).ok()
}

/// What a component consists of, without the insides of modules and components in it.
fn payloads(component: &[u8]) -> Option<Vec<Payload<'_>>> {
    let (mut parser, mut rest, mut payloads) = (Parser::new(0), component, Vec::new());
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else { return None };
        rest = &rest[consumed..];
        match &payload {
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                rest = rest.get(unchecked_range.len()..)?;
            }
            Payload::End(_) => return Some(payloads),
            _ => {}
        }
        payloads.push(payload);
    }
}

/// What is where in a component, as far as it has been read.
#[derive(Default)]
struct Index<'a> {
    /// Core modules; `None` for those that are not defined here.
    modules: Vec<Option<Range<usize>>>,
    /// Core instances, with the module of each that has one.
    instances: Vec<Option<u32>>,
    /// Core functions, with the instance and the name of each that is exported by one.
    functions: Vec<Option<(u32, &'a str)>>,
}

impl<'a> Index<'a> {
    fn add(&mut self, payload: &Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::ModuleSection { unchecked_range, .. } => self.modules.push(Some(unchecked_range.clone())),
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Module(_)) {
                        self.modules.push(None);
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    if export?.kind == ComponentExternalKind::Module {
                        self.modules.push(None);
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    self.instances.push(match instance? {
                        Instance::Instantiate { module_index, .. } => Some(module_index),
                        Instance::FromExports(_) => None,
                    });
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    match alias? {
                        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } => {
                            self.functions.push(Some((instance_index, name)));
                        }
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
                        | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => {
                            self.modules.push(None);
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions.clone() {
                    if !matches!(function?, CanonicalFunction::Lift { .. }) {
                        self.functions.push(None);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Which functions are to be imported, and where in the component.
struct Plan<'a> {
    /// The payload before which the module goes: the first that lifts.
    before: usize,
    /// What is defined before it.
    modules: u32,
    instances: u32,
    functions: u32,
    lifted: Vec<Lifted<'a>>,
}

struct Lifted<'a> {
    function: u32,
    instance: u32,
    name: &'a str,
    ty: FuncType,
}

impl<'a> Plan<'a> {
    fn of(component: &'a [u8], payloads: &[Payload<'a>]) -> Option<Self> {
        let before = payloads.iter().position(|payload| lifts(payload).next().is_some())?;
        let mut index = Index::default();
        for payload in &payloads[..before] {
            index.add(payload).ok()?;
        }
        let count = |things: usize| u32::try_from(things).ok();
        let (modules, instances) = (count(index.modules.len())?, count(index.instances.len())?);
        let functions = count(index.functions.len())?;
        for payload in &payloads[before..] {
            index.add(payload).ok()?;
        }
        // A module's number may be used within components in this one, and a function's in types. Both are left as they are.
        if index.modules.len() != modules as usize || payloads[before..].iter().any(names_functions) {
            return None;
        }

        let mut functions_of = HashMap::new();
        let mut lifted: Vec<Lifted<'_>> = Vec::new();
        for function in payloads.iter().flat_map(lifts) {
            let Some(&Some((instance, name))) = index.functions.get(function as usize) else { continue };
            let module = *index.instances.get(instance as usize)?;
            if instance >= instances || lifted.iter().any(|lifted| lifted.function == function) {
                continue;
            }
            let Some(range) = module.and_then(|module| index.modules[module as usize].clone()) else { continue };
            let exported =
                functions_of.entry(instance).or_insert_with(|| exported_functions(component.get(range)?).ok());
            let Some(ty) = exported.as_ref()?.get(name) else { continue };
            lifted.push(Lifted { function, instance, name, ty: ty.clone() });
        }
        (!lifted.is_empty()).then_some(Self { before, modules, instances, functions, lifted })
    }

    /// The module that imports the functions and exports them, numbered.
    fn module(&self) -> Result<Module, ReencodeError> {
        let (mut types, mut imports, mut exports) = <(TypeSection, ImportSection, ExportSection)>::default();
        for (at, lifted) in (0..).zip(&self.lifted) {
            types.ty().func_type(&RoundtripReencoder.func_type(lifted.ty.clone())?);
            imports.import(&lifted.instance.to_string(), lifted.name, EntityType::Function(at));
            exports.export(&at.to_string(), ExportKind::Func, at);
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&exports);
        Ok(module)
    }
}

/// The core functions that a section lifts.
fn lifts<'a>(payload: &Payload<'a>) -> impl Iterator<Item = u32> + use<'a> {
    let functions = match payload {
        Payload::ComponentCanonicalSection(functions) => Some(functions.clone()),
        _ => None,
    };
    functions.into_iter().flatten().filter_map(|function| match function {
        Ok(CanonicalFunction::Lift { core_func_index, .. }) => Some(core_func_index),
        _ => None,
    })
}

/// Whether a section of types has one that names a core function, or cannot be read.
fn names_functions(payload: &Payload<'_>) -> bool {
    let Payload::ComponentTypeSection(types) = payload else { return false };
    types.clone().into_iter().any(|ty| matches!(ty, Err(_) | Ok(ComponentType::Resource { dtor: Some(_), .. })))
}

/// The types of the functions that a core module exports.
fn exported_functions(module: &[u8]) -> wasmparser::Result<HashMap<&str, FuncType>> {
    let (mut types, mut functions, mut exported) = (Vec::new(), Vec::new(), HashMap::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(groups) => {
                for group in groups {
                    types.extend(group?.into_types());
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(ty) = import?.ty {
                        functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(defined) => {
                for ty in defined {
                    functions.push(ty?);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let ty = functions.get(export.index as usize).and_then(|&ty| types.get(ty as usize));
                    if let (ExternalKind::Func, Some(ty)) = (export.kind, ty)
                        && let wasmparser::CompositeInnerType::Func(ty) = &ty.composite_type.inner
                    {
                        exported.insert(export.name, ty.clone());
                    }
                }
                break;
            }
            _ => {}
        }
    }
    Ok(exported)
}

/// The component with the module in its place. What does not name a core function or instance is copied.
fn rewrite(component: &[u8], payloads: &[Payload<'_>], plan: Plan<'_>) -> Result<Vec<u8>, ReencodeError> {
    let mut rewritten = Component::new();
    let Plan { before, modules, instances, functions, .. } = plan;
    let module = plan.module()?;
    let mut numbers = Numbers {
        instances,
        functions,
        imported: (functions..).zip(&plan.lifted).map(|(now, lifted)| (lifted.function, now)).collect(),
    };
    for (at, payload) in payloads.iter().enumerate() {
        if at < before {
            copy(component, payload, &mut rewritten);
            continue;
        }
        if at == before {
            rewritten.section(&ModuleSection(&module));
            let mut arguments: Vec<_> = plan.lifted.iter().map(|lifted| lifted.instance).collect();
            arguments.sort_unstable();
            arguments.dedup();
            let arguments: Vec<_> =
                arguments.iter().map(|&instance| (instance.to_string(), ModuleArg::Instance(instance))).collect();
            let mut section = InstanceSection::new();
            section.instantiate(modules, arguments.iter().map(|(name, argument)| (name.as_str(), *argument)));
            rewritten.section(&section);
            let mut section = ComponentAliasSection::new();
            for number in 0..plan.lifted.len() {
                let (kind, name) = (ExportKind::Func, &number.to_string());
                section.alias(Alias::CoreInstanceExport { instance: instances, kind, name });
            }
            rewritten.section(&section);
        }
        match payload {
            Payload::ComponentCanonicalSection(section) => {
                let mut functions = CanonicalFunctionSection::new();
                reencode::parse_component_canonical_section(&mut numbers, &mut functions, section.clone())?;
                rewritten.section(&functions);
            }
            Payload::ComponentAliasSection(section) => {
                let mut aliases = ComponentAliasSection::new();
                reencode::parse_component_alias_section(&mut numbers, &mut aliases, section.clone())?;
                rewritten.section(&aliases);
            }
            Payload::InstanceSection(section) => {
                let mut instances = InstanceSection::new();
                reencode::parse_instance_section(&mut numbers, &mut instances, section.clone())?;
                rewritten.section(&instances);
            }
            other => copy(component, other, &mut rewritten),
        }
    }
    Ok(rewritten.finish())
}

/// Copies a part as it is, but for the names of things by their numbers.
fn copy(component: &[u8], payload: &Payload<'_>, into: &mut Component) {
    if let Payload::CustomSection(section) = payload
        && matches!(section.as_known(), KnownCustom::ComponentName(_))
    {
        return;
    }
    if let Some((id, range)) = payload.as_section() {
        into.section(&RawSection { id, data: &component[range] });
    }
}

/// How core functions and instances are numbered behind the module.
struct Numbers {
    /// How many there were before it.
    instances: u32,
    functions: u32,
    /// By the number of a function that is lifted: the imported one.
    imported: HashMap<u32, u32>,
}

impl Reencode for Numbers {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, ReencodeError> {
        let added = if function < self.functions { 0 } else { self.imported.len() as u32 };
        Ok(self.imported.get(&function).copied().unwrap_or(function + added))
    }
}

impl ReencodeComponent for Numbers {
    fn instance_index(&mut self, instance: u32) -> u32 {
        instance + u32::from(instance >= self.instances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::builtin::BUILTINS;
    use crate::plugins::load;

    /// For each function that a component lifts, whether the module that exports it has imported it.
    fn lifted_are_imported(component: &[u8]) -> Vec<bool> {
        let payloads = payloads(component).expect("a component");
        let mut index = Index::default();
        payloads.iter().for_each(|payload| index.add(payload).expect("a valid component"));
        let is_imported = |function: u32| {
            let (instance, name) = index.functions[function as usize]?;
            let module = index.instances[instance as usize]?;
            let module = &component[index.modules[module as usize].clone()?];
            let parts: Vec<_> = Parser::new(0).parse_all(module).map(|part| part.expect("a valid module")).collect();
            let export = parts.iter().find_map(|part| match part {
                Payload::ExportSection(exports) => exports.clone().into_iter().flatten().find(|e| e.name == name),
                _ => None,
            });
            let imports = parts.iter().find_map(|part| match part {
                Payload::ImportSection(imports) => Some(imports.clone().into_imports().count()),
                _ => None,
            });
            Some((export?.index as usize) < imports?)
        };
        payloads.iter().flat_map(lifts).map(|function| is_imported(function) == Some(true)).collect()
    }

    #[test]
    fn every_lifted_function_becomes_an_imported_one() {
        let built = include_bytes!("../../../tests/fixtures/least-busy-0.1.0.component.wasm");
        let plugins = BUILTINS.iter().map(|builtin| (builtin.name, builtin.component)).chain([("built", &built[..])]);
        for (name, bytes) in plugins {
            let component = load::component(name, bytes).expect(name);
            assert!(lifted_are_imported(&component).contains(&false), "{name} leaves nothing to do");

            let quicker = imported(&component).expect(name);

            let lifted = lifted_are_imported(&quicker);
            assert_eq!(lifted.len(), lifted_are_imported(&component).len(), "{name}");
            assert!(lifted.iter().all(|&is_imported| is_imported), "{name}: {lifted:?}");
            wasmparser::Validator::new().validate_all(&quicker).expect(name);
        }
    }

    #[test]
    fn functions_behind_the_module_keep_their_meaning() {
        let component = |between: &str| {
            let text = format!(
                r#"(component
                    (core module $m
                        (memory (export "memory") 1)
                        (func (export "one") (result i32) i32.const 1)
                        (func (export "text") (result i32) i32.const 8)
                        (func (export "done") (param i32))
                        (data (i32.const 8) "\10\00\00\00\02\00\00\00ab"))
                    (core instance $i (instantiate $m))
                    (func (export "one") (result u32) (canon lift (core func $i "one")))
                    {between}
                    (core instance $j (instantiate $m))
                    (func (export "text") (result string) (canon lift (core func $i "text")
                        (memory (core memory $i "memory")) (post-return (core func $i "done"))))
                    (func (export "late") (result u32) (canon lift (core func $j "one"))))"#
            );
            wat::parse_str(text).expect("valid text")
        };
        // A module that is defined behind a lifted function: left as it is.
        assert!(imported(&component("(core module $later)")).is_none());

        let quicker = imported(&component("")).expect("functions to import");

        wasmparser::Validator::new().validate_all(&quicker).expect("a valid component");
        // An instance that is made behind the module cannot be imported from.
        assert_eq!(lifted_are_imported(&quicker), [true, true, false]);
    }

    #[test]
    fn what_has_no_functions_or_is_none_is_left_as_it_is() {
        for text in ["(component)", "(module)", r#"(component (core module (func (export "a"))))"#] {
            assert!(imported(&wat::parse_str(text).expect("valid text")).is_none(), "{text}");
        }
        for bytes in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0\x08\xff", b"nothing of the sort"] {
            assert!(imported(bytes).is_none());
        }
    }
}
