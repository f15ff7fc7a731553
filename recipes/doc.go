// Package recipes reads the one file that describes an appliance.
//
// A recipe is YAML 1.2, read strictly: an unknown key, a value of the wrong type, a key written twice and settings
// that contradict each other are refused, each with the file, line and column it stands at and with what to do about
// it. [Load] returns a [Recipe] in which every default is filled in, so that the rest of the program sees plain
// values; [Recipe.Position] says where a value came from, so that a problem found later (a package that does not
// exist) can still be shown in the file.
//
// Every field is declared once, in the struct tags of the types here. The decoder, the rules by which files are
// merged and the JSON Schema that editors complete from ([Schema]) are all read from those tags:
//
//	json      the key
//	doc       what the field is for: one sentence or more
//	enum      the allowed values, separated by commas
//	pattern   a regular expression that the text, or each item of a list, matches (RE2 and ECMA-262 alike)
//	want      what a text that matches the pattern looks like, in words
//	default   the value of a field that is left out, in words or as written
//	example   one value as it would be written
//	required  the field must be given
//	secret    the value must not appear in an error
//	number    a text that may be written as a number without quotes
//	minimum   the least and, as maximum, the largest of a whole number
//	short     a scalar in place of the mapping is this field
//	scalar    a scalar in place of the list is its only item
//	words     a scalar in place of the list is taken apart into words
//	merge     what becomes of a list that is set in two files
//
// # Merging
//
// A recipe may include others. They are read in order, the later over the earlier, and the file that includes them
// over all of them; --set comes last. Mappings are merged key by key, scalars replaced. The short form of a mapping
// (boot: none) stands for the whole mapping and replaces it. Lists follow their field's merge tag: "replace" takes the
// later list; "append" adds the items that are new; "package" does so by package name, so that vim=2 replaces vim
// and vim- takes back an included vim; "name" merges items of one name as mappings; "path" replaces items of one
// path; "image" merges images of one reference as mappings; a list of words is replaced. A unit that is named in units
// leaves the other lists of units that an included file put it in.
//
// The package does not know which distributions, packages or units exist, opens no file that a recipe merely names,
// and reads neither the environment nor the clock.
package recipes
