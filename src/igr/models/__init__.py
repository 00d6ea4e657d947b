"""Networks, latents and the models made of them."""
