//! Reads the SAM templates: YAML with intrinsic functions, the SAM transform, nested
//! applications; gives plain CloudFormation resources with everything evaluated.
