//! All permissions: the host script may do whatever its user may.
//!
//! Deno's ops ask for a permission before they act and want paths and addresses parsed for that, even
//! where everything is allowed. What only restricting permissions would need, such as searching `PATH`
//! for programs that may be run, is refused here: no op of this realm asks for it.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use deno_permissions::{
    AllowRunDescriptorParseResult, DenyRunDescriptor, EnvDescriptor, EnvDescriptorParseError,
    FfiDescriptor, ImportDescriptor, NetDescriptor, NetDescriptorParseError, PathDescriptor,
    PathQueryDescriptor, PathResolveError, PermissionDescriptorParser, PermissionsContainer,
    ReadDescriptor, RunDescriptorParseError, RunQueryDescriptor, SpecialFilePathQueryDescriptor,
    SysDescriptor, SysDescriptorParseError, WriteDescriptor,
};
use sys_traits::impls::RealSys;

/// Permissions that allow everything.
pub(crate) fn allow_all() -> PermissionsContainer {
    PermissionsContainer::allow_all(Arc::new(Parser))
}

#[derive(Debug)]
struct Parser;

fn path(text: &str) -> Result<PathDescriptor, PathResolveError> {
    PathDescriptor::new(&RealSys, Cow::Borrowed(Path::new(text)))
}

impl PermissionDescriptorParser for Parser {
    fn parse_read_descriptor(&self, text: &str) -> Result<ReadDescriptor, PathResolveError> {
        path(text).map(ReadDescriptor)
    }

    fn parse_write_descriptor(&self, text: &str) -> Result<WriteDescriptor, PathResolveError> {
        path(text).map(WriteDescriptor)
    }

    fn parse_ffi_descriptor(&self, text: &str) -> Result<FfiDescriptor, PathResolveError> {
        path(text).map(FfiDescriptor)
    }

    fn parse_net_descriptor(&self, text: &str) -> Result<NetDescriptor, NetDescriptorParseError> {
        NetDescriptor::parse_for_list(text)
    }

    fn parse_import_descriptor(
        &self,
        text: &str,
    ) -> Result<ImportDescriptor, NetDescriptorParseError> {
        ImportDescriptor::parse_for_list(text)
    }

    fn parse_env_descriptor(&self, text: &str) -> Result<EnvDescriptor, EnvDescriptorParseError> {
        if text.is_empty() {
            return Err(EnvDescriptorParseError);
        }
        Ok(EnvDescriptor::new(Cow::Borrowed(text)))
    }

    fn parse_sys_descriptor(&self, text: &str) -> Result<SysDescriptor, SysDescriptorParseError> {
        SysDescriptor::parse(text.to_owned())
    }

    fn parse_allow_run_descriptor(
        &self,
        _text: &str,
    ) -> Result<AllowRunDescriptorParseResult, RunDescriptorParseError> {
        Err(RunDescriptorParseError::EmptyRunQuery)
    }

    fn parse_deny_run_descriptor(&self, text: &str) -> Result<DenyRunDescriptor, PathResolveError> {
        Ok(DenyRunDescriptor::parse(text, Path::new("/")))
    }

    fn parse_path_query<'a>(
        &self,
        path: Cow<'a, Path>,
    ) -> Result<PathQueryDescriptor<'a>, PathResolveError> {
        PathQueryDescriptor::new(&RealSys, path)
    }

    fn parse_special_file_descriptor<'a>(
        &self,
        path: PathQueryDescriptor<'a>,
    ) -> Result<SpecialFilePathQueryDescriptor<'a>, PathResolveError> {
        SpecialFilePathQueryDescriptor::parse(&RealSys, path)
    }

    fn parse_net_query(&self, text: &str) -> Result<NetDescriptor, NetDescriptorParseError> {
        NetDescriptor::parse_for_query(text)
    }

    fn parse_run_query<'a>(
        &self,
        _requested: &'a str,
    ) -> Result<RunQueryDescriptor<'a>, RunDescriptorParseError> {
        Err(RunDescriptorParseError::EmptyRunQuery)
    }
}
