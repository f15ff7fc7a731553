package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/applbuild/applbuild/builder/containers/gather"
	"github.com/applbuild/applbuild/builder/lock"
	"github.com/applbuild/applbuild/recipes"
)

// lockFits says whether a lock whose packages fit has the recipe's images, each
// verified as it is to be, and no others.
func (b *Builder) lockFits(recipe *recipes.Recipe, l *lock.Lock) (bool, error) {
	images, err := containerImages(recipe)
	if err != nil {
		return false, err
	}
	registry := 0
	for _, image := range images {
		if image.Layout == "" {
			registry++
		}
	}
	return len(b.lockedImages(images, l)) == 0 && len(l.Containers) == registry, nil
}

// onlyImages parts the names that are to move into those of images and those of
// packages.
func onlyImages(recipe *recipes.Recipe, o LockOptions) (images, packages []string, err error) {
	known, err := containerImages(recipe)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range o.Only {
		ref, refErr := recipes.ParseReference(name)
		isImage := refErr == nil && slices.ContainsFunc(known, func(c *containerImage) bool {
			return c.Layout == "" && (c.Ref == ref || c.Reference() == ref)
		})
		switch {
		case isImage:
			images = append(images, ref.String())
		case strings.ContainsAny(name, "/:@"):
			return nil, nil, fmt.Errorf("%s is no image of a registry that the recipe names: name one that is, or none to move all", name)
		default:
			packages = append(packages, name)
		}
	}
	return images, packages, nil
}

// pinImages pins the recipe's images of registries. Those that old has stay,
// unless they are to move; what has moved is told.
func (b *Builder) pinImages(ctx context.Context, recipe *recipes.Recipe, old *lock.Lock, moves func(ref string) bool) ([]lock.Container, error) {
	images, err := containerImages(recipe)
	if err != nil || len(images) == 0 {
		return nil, err
	}
	g, err := b.gatherer(recipe)
	if err != nil {
		return nil, err
	}
	missing := b.lockedImages(images, old)
	var list []lock.Container
	for _, image := range images {
		if image.Layout != "" {
			continue
		}
		before := image.pin
		if slices.Contains(missing, image) || moves(image.wanted.Ref) {
			if image.pin, err = g.Pin(ctx, image.wanted); err != nil {
				return nil, recipe.Problem(image.path, err.Error(), "", err)
			}
			b.tellMove(image, before, "")
		}
		list = append(list, image.locked())
	}
	slices.SortFunc(list, func(a, b lock.Container) int {
		return strings.Compare(a.Ref+" "+a.Platform, b.Ref+" "+b.Platform)
	})
	return slices.CompactFunc(list, func(a, b lock.Container) bool { return a.Ref == b.Ref && a.Platform == b.Platform }), nil
}

// tellMove says that an image's tag stands for something else than it did.
func (b *Builder) tellMove(image *containerImage, before *gather.Pin, do string) {
	if before != nil && before.Manifest != image.pin.Manifest {
		b.settings.Observer.Notice(fmt.Sprintf("%s moved from %s to %s%s", image.wanted.Ref, before.Manifest, image.pin.Manifest, do))
	}
}

// tellMoved says which tags stand for something else now than in the lock. A
// registry that cannot be asked is told, and is no error: the lock has all that
// a build needs.
func (b *Builder) tellMoved(ctx context.Context, recipe *recipes.Recipe, l *lock.Lock) error {
	images, err := containerImages(recipe)
	if err != nil || len(images) == 0 || b.settings.Offline {
		return err
	}
	g, err := b.gatherer(recipe)
	if err != nil {
		return err
	}
	b.lockedImages(images, l)
	for _, image := range images {
		if image.Layout != "" || image.Ref.Digest != "" {
			continue
		}
		before := image.pin
		found, err := g.Client.Resolve(ctx, image.wanted.Ref, image.wanted.Platform)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.settings.Observer.Notice(fmt.Sprintf("whether %s has moved is not known: %v", image.wanted.Ref, err))
			continue
		}
		image.pin = &gather.Pin{Manifest: found.Manifest}
		b.tellMove(image, before, fmt.Sprintf("; the lock stays: `applbuild lock --update %s %s` takes it", recipe.File(), image.wanted.Ref))
	}
	return nil
}

// locked is a pinned image as the lock has it.
func (c *containerImage) locked() lock.Container {
	l := lock.Container{
		Ref: c.wanted.Ref, Platform: c.wanted.Platform.String(), Index: string(c.pin.Index), Digest: string(c.pin.Manifest),
		Verify: c.asked, SignedBy: c.pin.SignedBy,
	}
	if s := c.pin.SBOM; s != nil {
		l.SBOM = &lock.SBOM{MediaType: s.MediaType, Digest: string(s.Digest), Size: s.Size}
	}
	return l
}

// oldLock is the lock beside the recipe, whatever it is for; an empty one where
// there is none.
func oldLock(recipe *recipes.Recipe) (*lock.Lock, error) {
	l, err := lock.Read(lock.PathFor(recipe.File()))
	if errors.Is(err, lock.ErrMissing) {
		return &lock.Lock{}, nil
	}
	return l, err
}
