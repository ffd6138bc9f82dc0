opt_f = 8


def process_images_inner(p):
    """Rounds no sizes."""
