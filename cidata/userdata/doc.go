// Package userdata takes cloud-init's user-data and vendor-data apart into their parts, and puts parts together: by first
// line, as a MIME message, gzip'ed, as a cloud-config-archive, and any of these within each other.
//
// Walk sees what cloud-init's UserDataProcessor would give to its handlers, with the place of each part in the file that
// it lies in. Input is hostile: the number of parts, their bytes and how deep they lie within each other have bounds. Join
// writes what cloud-init, and Walk, take apart to the same parts.
//
// It does not say whether a part is right (package schema judges a cloud-config), fetches nothing that an #include names,
// renders no Jinja template, and decrypts and verifies nothing. Formats: cloud-init's documentation, "User data formats";
// RFC 2045 and 2046 (MIME); RFC 1952 (gzip).
package userdata
