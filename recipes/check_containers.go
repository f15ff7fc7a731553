package recipes

import "fmt"

// containers checks the images and what runs from them.
func (c *checker) containers() {
	list := c.recipe.Containers
	if list == nil {
		return
	}
	for i := range list.Images {
		c.containerImage(&list.Images[i], fmt.Sprintf("containers.images[%d]", i))
	}
}

func (c *checker) containerImage(image *ContainerImage, at string) {
	switch {
	case image.Layout == "" && image.Ref == (Reference{}):
		c.add(at, "nothing says where the image comes from", "add ref or layout")
	case image.Layout != "" && image.Ref != (Reference{}):
		c.add(at+".layout", "ref and layout exclude each other", "keep one of them; name says what the image of a layout is called")
	}
}
