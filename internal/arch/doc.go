// Package arch holds nothing but tests: of the import arrows in docs/design.md, of the size of files, and that
// everything exported is documented.
package arch
